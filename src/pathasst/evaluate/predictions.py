"""Predictions on disk, one line each, by model, prompt and data: a rerun costs nothing, a killed run goes on where it stopped.

Knows keys and plain values. A line cut off by a kill is passed over and asked again. Several processes share the work by
keys; each writes a file of its own, and all read all.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pathasst.core.tables import lines_of

Value = dict[str, Any]


def key_of(*parts: Any) -> str:
    """A stable key of everything that decides a prediction: text, bytes and plain values."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        is_bytes = isinstance(part, bytes)
        content = part if is_bytes else json.dumps(part, sort_keys=True, ensure_ascii=False).encode()
        digest.update(bytes([is_bytes]) + len(content).to_bytes(8, "little") + content)
    return digest.hexdigest()


Share = tuple[int, int]
"""Which of how many processes: (0, 1) is alone."""
UNASKED: Value = {"said": "", "calls": [], "failed": "the share of another process"}


class Predictions:
    """The predictions of one task, in `<folder>/<task>.jsonl`; of a process that shares the work in `<task>.<share>.jsonl`."""

    def __init__(self, folder: Path, task: str, share: Share = (0, 1)) -> None:
        number, self.of = share
        self.number = number
        self.path = Path(folder) / (f"{task}.jsonl" if self.of == 1 else f"{task}.{number}.jsonl")
        self.values: dict[str, Value] = {}
        for path in [*sorted(Path(folder).glob(f"{task}.*.jsonl")), Path(folder) / f"{task}.jsonl"]:
            self.values |= dict(_read(path))

    def fill(
        self,
        keys: Sequence[str],
        ask: Callable[[list[int]], Sequence[Value]],
        *,
        batch: int = 16,
        progress: Callable[[int], None] | None = None,
    ) -> list[Value]:
        """The prediction of each key, in order; `ask` gets the positions of those that are not known, a batch at a time.

        A process that shares the work asks its share alone, and gives UNASKED for the rest.
        """
        missing = [n for n, key in enumerate(keys) if key not in self.values and int(key, 16) % self.of == self.number]
        missing = sorted({keys[n]: n for n in reversed(missing)}.values())  # the same question twice is asked once
        if progress:
            progress(len(keys) - len(missing))
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            for start in range(0, len(missing), batch):
                chunk = missing[start : start + batch]
                for n, value in zip(chunk, ask(chunk), strict=True):
                    self.values[keys[n]] = value
                    file.write(json.dumps({"key": keys[n], "value": value}, ensure_ascii=False) + "\n")
                file.flush()
                if progress:
                    progress(len(chunk))
        return [self.values[key] if self.of == 1 else self.values.get(key, UNASKED) for key in keys]


def _read(path: Path) -> Iterator[tuple[str, Value]]:
    if not path.is_file():
        return
    content = path.read_bytes()
    if content and not content.endswith(b"\n"):  # a line that a kill cut off; ended here, so that the next one is whole
        with path.open("ab") as file:
            file.write(b"\n")
    for line in lines_of(content.decode("utf-8", errors="replace")):
        try:
            row = json.loads(line)
            yield row["key"], row["value"]
        except (ValueError, KeyError, TypeError):
            continue
