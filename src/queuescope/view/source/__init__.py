"""The Prometheus behind a view: whether it answers, its clock, and what it has."""
