"""vLLM's own decoder layers, called on chosen tokens; knows pages and ranks, nothing of blends."""
