"""The workers' half of the connector: runs blends in slices, and computes and stores chunks."""
