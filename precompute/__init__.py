"""Offline: a folder of documents becomes chunk KV in a store and text in an index."""
