"""Captions: split into panels, refine to what can be seen, and check that nothing was invented."""
