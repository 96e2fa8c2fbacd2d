"""Tests of the precompute job."""
