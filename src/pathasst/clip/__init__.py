"""Pair → PathCLIP: training through OpenCLIP, conversion to and from Hugging Face, zero-shot classification and retrieval.

Imports nothing heavy by itself: `from pathasst.clip.model import PathCLIP`.
"""
