"""Who a visitor is, how they log in, and what they may do."""
