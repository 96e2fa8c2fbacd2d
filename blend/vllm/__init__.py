"""The blend inside stock vLLM: scheduler and worker halves of a KV connector, and the engine around it."""
