"""Which plan to take."""
