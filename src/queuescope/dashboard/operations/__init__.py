"""The page of operations."""
