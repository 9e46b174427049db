"""What the TensorRT engines are made of; both flavours, ``tensorrt`` and ``tensorrt_rtx``, run the same code."""
