"""Freed memory goes back to the system, so that resident memory stays flat. Knows glibc; elsewhere it does nothing.

Each question of a server, and each tile of a slide, is worked on by several threads, and glibc gives threads arenas that keep
what they needed once. Few arenas, trimmed now and then, hold no more than what is in use.
"""

from __future__ import annotations

import ctypes
import sys
from functools import lru_cache

ARENAS = 2
_M_ARENA_MAX = -8  # of glibc's malloc.h


def keep_few_arenas(most: int = ARENAS) -> None:
    """Limit the arenas of this process; call it before threads and models are there."""
    if glibc := _glibc():
        glibc.mallopt(_M_ARENA_MAX, most)


def give_back() -> None:
    """Return what is free to the system."""
    if glibc := _glibc():
        glibc.malloc_trim(0)


@lru_cache(maxsize=1)
def _glibc() -> ctypes.CDLL | None:
    own = ctypes.CDLL(None) if sys.platform == "linux" else None
    return own if hasattr(own, "malloc_trim") else None  # musl has none
