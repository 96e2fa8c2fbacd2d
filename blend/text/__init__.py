"""Turns text into token ids, so that a known chunk has the same ids in every prompt."""
