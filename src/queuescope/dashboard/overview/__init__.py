"""The overview, the first page: the present state and its history."""
