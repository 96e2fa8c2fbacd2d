"""The plan of a blend, as pure integers: known chunks in a prompt, repeated text, ratio, salt."""
