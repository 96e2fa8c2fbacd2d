"""The HTTP server: vLLM's own OpenAI server, with retrieval, blending and ingestion."""
