"""What the watched sources say, in the terms of the view. Everything is read from memory."""
