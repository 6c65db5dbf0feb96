"""What an operator may do: confirmed, audited before and after, and carried out once."""
