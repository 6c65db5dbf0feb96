"""Who is asking, how they log in, and what they may do."""
