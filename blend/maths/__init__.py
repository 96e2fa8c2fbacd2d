"""Pure tensor functions: rotation of keys, attention with visible weights, KL divergence."""
