"""HTTP in, server-sent events out; chunk ids and text on one side, the engine on the other."""
