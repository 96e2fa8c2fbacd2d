"""All that measures kvblend: speed, fidelity, load, store. Only the command line imports it, lazily."""
