"""The scheduler's half of the connector: decides which requests are blended, and how."""
