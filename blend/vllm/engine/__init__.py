"""A vLLM engine that blends: set up, started, asked and shut down from Python."""
