"""The first page: what is going on, and how it got there."""
