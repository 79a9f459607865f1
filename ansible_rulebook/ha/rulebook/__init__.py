"""What runs under a term."""
