"""Chunks on a server that machines share: Redis, Valkey, or an S3-compatible bucket."""
