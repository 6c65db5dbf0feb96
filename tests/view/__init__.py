"""What a page is told, on real servers."""
