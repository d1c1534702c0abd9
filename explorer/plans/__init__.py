"""What is inherited, and when: plans, their rules, schedules, files and named strategies."""
