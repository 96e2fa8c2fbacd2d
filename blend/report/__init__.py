"""What happened to a request, and what is counted over all requests."""
