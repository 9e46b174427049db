"""Many runs from one command: where a sweep lies, how its jobs start, how a search chooses them, what came out."""
