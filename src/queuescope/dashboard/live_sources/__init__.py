"""The watched sources as live sources of the view. Everything is read from memory."""
