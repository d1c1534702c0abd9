"""What a day of minutes on a GPU is made of: its tasks, the process that runs them, what it needs, its rehearsal."""
