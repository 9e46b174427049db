"""Operators of our own for TensorRT. These modules import torch; the engines do not."""
