"""The dense opponent of a structured result: the same parent, made just as fast by dropping whole layers."""
