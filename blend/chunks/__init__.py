"""What is stored of a chunk: its KV, its versions, the positions it was computed at, whose it is."""
