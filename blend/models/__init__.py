"""Finding a model, converting it, naming it by its numbers, and judging whether it can be blended."""
