"""Plain text: shortening. Knows no room."""

from __future__ import annotations


def shortened(text: str, longest: int) -> str:
    """A text of at most about `longest` characters, cut between two words."""
    return text if len(text) <= longest else text[:longest].rsplit(" ", 1)[0] + " …"
