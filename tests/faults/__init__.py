"""What can go wrong between the page and Prometheus, and what the page must show."""
