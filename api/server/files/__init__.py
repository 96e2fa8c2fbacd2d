"""`/v1/files`: uploaded files, stored in the store's folder."""
