"""The data of the page, from real servers."""
