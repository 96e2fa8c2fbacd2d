"""Load: requests that reach a server over HTTP on a schedule of their own, and what became of each."""
