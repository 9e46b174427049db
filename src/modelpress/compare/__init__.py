"""Many runs side by side: ``modelpress compare``, ``runs`` and ``why``. Torch-free; HTML code loads on demand."""
