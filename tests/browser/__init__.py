"""The page in a real browser, on a real Prometheus with known samples."""
