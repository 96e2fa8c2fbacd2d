"""Finds and converts models, computes their fingerprints, and decides whether they can be blended."""
