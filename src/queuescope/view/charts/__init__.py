"""A chart's reading and figure, and what lies on it."""
