"""The blend inside stock vLLM: the only package that imports vllm."""
