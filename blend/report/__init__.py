"""What happened to one request, and metrics over all requests."""
