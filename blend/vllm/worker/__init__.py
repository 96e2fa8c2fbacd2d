"""The workers' half of the connector: reading, blending in slices, computing chunks."""
