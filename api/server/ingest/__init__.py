"""Ingestion while the server runs: managed collections, the jobs that update them, and their routes."""
