"""What every request passes, whatever its route: keys, limits, one shape of errors, log, traces, draining."""
