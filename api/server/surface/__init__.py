"""Middleware of all routes: API keys, limits, one shape of errors, request log, traces, draining."""
