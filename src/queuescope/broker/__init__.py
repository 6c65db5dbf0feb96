"""The broker: its protocol, its implementations, and what workers and the dashboard keep there."""
