"""A chunk: its KV, its id, its stored versions, and the namespace it belongs to."""
