"""Tests of the retriever."""
