"""The present figures, fetched once for all views and cards."""
