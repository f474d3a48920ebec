"""What was spent: a ledger that all processes of a run, and all its restarts, share. Knows prices, no server.

The ledger is a file of JSON lines, one per paid answer, appended in one write each; a budget is held against its sum.
"""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path

from pathasst.core.errors import OverBudget
from pathasst.llm.messages import Reply


class Ledger:
    """Counts calls, tokens and money. `reserve` is called before a question is sent, `add` when its answer is here."""

    def __init__(self, path: Path, max_cost: float | None = None) -> None:
        self.path, self.max_cost = path, max_cost
        self.calls = self.tokens_in = self.tokens_out = 0
        self.cost = 0.0
        self._read = 0
        self._under_way = 0.0
        self._lock = threading.Lock()

    def reserve(self, estimate: float) -> None:
        """Set aside what a question may cost at most. Raises OverBudget when that would pass `max_cost`."""
        with self._lock:
            self._catch_up()
            if self.max_cost is not None and self.cost + self._under_way + estimate > self.max_cost:
                raise OverBudget(
                    f"{self.cost:.4f} of {self.max_cost:g} are spent and the next question may cost {estimate:.4f}. "
                    "Answers so far are kept: run again with a higher --max-cost to go on."
                )
            self._under_way += estimate

    def release(self, estimate: float) -> None:
        """Give back what `reserve` set aside."""
        with self._lock:
            self._under_way = max(0.0, self._under_way - estimate)

    def add(self, reply: Reply) -> None:
        """Write down a paid answer."""
        row = {
            "time": round(time.time(), 3),
            "model": reply.model,
            "in": reply.tokens_in,
            "out": reply.tokens_out,
            "cost": reply.cost,
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._lock:
            handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            try:
                os.write(handle, (json.dumps(row) + "\n").encode())
            finally:
                os.close(handle)
            self._catch_up()

    def summary(self) -> str:
        """Calls, tokens and money in one line."""
        with self._lock:
            self._catch_up()
        return f"{self.calls} calls, {self.tokens_in} tokens read, {self.tokens_out} written, cost {self.cost:.4f}"

    def _catch_up(self) -> None:
        """Read what was appended since, by whomever; a half-written last line waits."""
        try:
            with self.path.open("rb") as file:
                file.seek(self._read)
                new = file.read()
        except FileNotFoundError:
            return
        complete = new[: new.rfind(b"\n") + 1]
        self._read += len(complete)
        for line in complete.splitlines():
            try:
                row = json.loads(line)
                self.cost += float(row["cost"])
                self.tokens_in += int(row["in"])
                self.tokens_out += int(row["out"])
                self.calls += 1
            except (ValueError, KeyError, TypeError):
                continue  # a line cut by a crash; its answer was not cached either
