"""Documents in a chat request: put into its conversation, and precomputed for later requests."""
