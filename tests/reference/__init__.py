"""Slow and obvious twins of what the packages do, and the tiny models they are tried on."""
