"""A query becomes ranked chunk ids: knows text and scores, never tensors of KV."""
