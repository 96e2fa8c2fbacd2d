"""Chats and completions: from `rag` and `blend` in the body to statistics in the answer."""
