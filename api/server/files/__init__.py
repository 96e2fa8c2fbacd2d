"""`/v1/files`: what clients upload, kept in the store's folder."""
