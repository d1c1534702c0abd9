"""What ships, and what travels."""
