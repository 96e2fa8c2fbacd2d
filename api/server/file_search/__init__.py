"""The `file_search` tool: questions answered from vector stores, with citations of their files."""
