"""The gate: a model is blended only after its blends agreed with its own full prefill."""
