"""The file of one chunk: its header, its bytes, how it is written and read."""
