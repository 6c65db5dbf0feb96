"""The figures of now, asked for once for all views and cards."""
