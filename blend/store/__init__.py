"""Chunk KV stores: one contract, several tiers."""
