"""What this machine can build and run, and why not."""
