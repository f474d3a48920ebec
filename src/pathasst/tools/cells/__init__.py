"""Immunohistochemical cell tools on one detector: Ki67, HER2, PD-L1."""
