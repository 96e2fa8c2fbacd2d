"""A chat or completion request: from `rag` and `blend` in its body to statistics in its answer."""
