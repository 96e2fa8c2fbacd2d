"""Short documents, and the comparison that `make demo` runs on them."""
