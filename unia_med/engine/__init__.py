"""Training: loop, checkpoints, schedules, several processes, records."""
