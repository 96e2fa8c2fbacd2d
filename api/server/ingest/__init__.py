"""Documents in, while the server runs: managed collections, jobs that bring them up to date, their routes."""
