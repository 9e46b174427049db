"""INT8 fake quantization of PyTorch modules: ranges, calibration, balancing, sensitivity."""
