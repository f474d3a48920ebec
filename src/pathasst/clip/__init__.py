"""Pair → PathCLIP: training through OpenCLIP, conversion to and from Hugging Face, zero-shot classification and retrieval.

Imports nothing heavy by itself: `from pathasst.clip.model import PathCLIPModel`.
"""

DEFAULT_PATHCLIP = "pathclip-lite"
"""The PathCLIP of every command and function that is given none."""
