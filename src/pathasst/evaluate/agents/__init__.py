"""Agents: what they call, in which order, with which arguments, what they do after an error, and what comes out."""
