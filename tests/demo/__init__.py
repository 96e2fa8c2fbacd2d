"""Tests of the demo: the examples for clients, and what operators are given."""
