"""Text in, token ids out, so that a known chunk's ids stand in a prompt as they were computed."""
