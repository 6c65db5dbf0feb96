"""Redis and Valkey as a broker."""
