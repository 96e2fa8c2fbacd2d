"""How well and how fast retrieval finds the chunks that hold an answer."""
