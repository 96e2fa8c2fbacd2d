"""The scheduler's half of the connector: which requests are blended, and how."""
