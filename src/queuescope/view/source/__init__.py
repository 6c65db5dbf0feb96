"""The Prometheus behind a view: is it there, whose clock it keeps, and what it has."""
