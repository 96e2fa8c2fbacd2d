"""`/v1/vector_stores`: managed collections whose documents are uploaded files."""
