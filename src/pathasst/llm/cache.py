"""Answers on disk, one small file each, so that no question is paid twice and a killed run goes on where it was.

Knows keys and replies. Files are written atomically and read by any number of processes; a damaged file counts as absent.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from pathasst.core.files import write_atomic
from pathasst.llm.messages import LLMMessage, Reply


def key_of(messages: Sequence[LLMMessage], options: Mapping[str, Any], schema: Any = None, variant: int = 0) -> str:
    """The sha256 of all that decides an answer. `variant` tells apart several answers wanted to one question."""
    parts = {"messages": [[m.role, m.content] for m in messages], "asked": dict(options), "schema": schema, "variant": variant}
    return hashlib.sha256(json.dumps(parts, sort_keys=True, ensure_ascii=False, default=str).encode()).hexdigest()


class Cache:
    """A folder of answers: `<folder>/ab/abcdef….json`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(self, key: str) -> Reply | None:
        """The answer, marked as cached, or None."""
        try:
            values = json.loads(self._path(key).read_text(encoding="utf-8"))
            return replace(Reply(**values), cached=True)
        except (OSError, ValueError, TypeError):
            return None

    def put(self, key: str, reply: Reply) -> None:
        """Keep an answer."""
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, json.dumps(asdict(reply), ensure_ascii=False).encode())

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.json"
