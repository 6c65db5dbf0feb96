"""Charts: their readings, figures, live ends, and alerts."""
