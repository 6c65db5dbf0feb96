"""What stands in the broker and what workers and the dashboard agree on there."""
