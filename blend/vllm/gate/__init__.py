"""The gate: a model is blended only after it has agreed with its own full prefill."""
