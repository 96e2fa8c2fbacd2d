"""One layer of a blend: vLLM's own decoder layers run on chosen rows."""
