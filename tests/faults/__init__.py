"""What goes wrong between the page and Prometheus, and what must be seen of it."""
