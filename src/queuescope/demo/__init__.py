"""The local stack: a real platform on this machine, its history and its processes."""
