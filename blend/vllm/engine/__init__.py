"""A vLLM engine that blends: how it is set up, started, asked and ended."""
