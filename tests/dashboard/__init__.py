"""The routes around the page, most of them of a dashboard that runs."""
