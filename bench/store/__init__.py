"""Chunk stores: speed of tiers, size and cost of codecs."""
