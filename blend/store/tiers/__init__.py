"""Where chunks lie on this machine: device, memory, disk, and one tier in front of another."""
