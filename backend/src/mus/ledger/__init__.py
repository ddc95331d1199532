"""Job rows, schedules, workers: the only writer of a job's state."""
