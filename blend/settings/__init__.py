"""Defaults, and settings from files, the environment and flags."""
