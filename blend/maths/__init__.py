"""Tensors in, tensors out: rotation of keys, and attention over rows that are at hand."""
