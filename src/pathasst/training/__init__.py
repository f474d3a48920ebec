"""One training loop for every model: schedule, checkpoints, log, exact resume. Knows no model."""
