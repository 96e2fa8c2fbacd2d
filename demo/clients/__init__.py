"""Clients that people have already, against `kvblend serve`: each file is one of them, whole."""
