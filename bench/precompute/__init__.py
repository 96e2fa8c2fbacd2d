"""How fast chunk KV is computed and stored, against the engine's own prefill."""
