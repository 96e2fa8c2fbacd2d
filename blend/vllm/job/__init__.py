"""The blend of one request in a worker: read the chunks, realign, select, recompute."""
