"""Predictions → tables: every table and figure of the paper, with intervals and baselines. Sees all rooms but `cli`."""
