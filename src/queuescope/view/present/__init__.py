"""The figures of now, fetched once for all views and cards."""
