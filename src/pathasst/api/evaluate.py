"""Measuring in Python: the paper's tables and figures for any model."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pathasst.clip import DEFAULT_PATHCLIP

if TYPE_CHECKING:
    from pathasst.evaluate.table import Table


@dataclass(frozen=True)
class Evaluation:
    """The tables that were made, and why others could not be made (`refused`: part → reason)."""

    tables: list[Table]
    refused: dict[str, str]
    folder: Path  # JSON, Markdown and report.html

    def __iter__(self) -> Iterator[Table]:
        return iter(self.tables)

    def __getitem__(self, id: str) -> Table:
        return next(table for table in self.tables if table.id == id)

    def show(self) -> None:
        """Print the tables."""
        from pathasst.evaluate.table import print_tables

        print_tables(self.tables)


def evaluate(
    parts: Sequence[str],
    *,
    data: Path | str | None = None,
    pairs: Sequence[Path | str] = (),
    clip: str = DEFAULT_PATHCLIP,
    brain: str = "",
    out: Path | str | None = None,
    **settings: Any,
) -> Evaluation:
    """Measure: `zero-shot` (Table 2), `retrieval` (Figure 4), `pathvqa` (Table 3), `tools`, `papers`, `curation`, `leakage`.

    `data`: folder of the public test sets (`pathasst eval sets` lists them). `pairs`: datasets of pairs. `clip`, `brain`: what is
    measured. `out`: folder of the results and of cached predictions; None: a temporary one. `settings`: as the command's options
    (`split`, `seed`, `limit`, `index`, `workers` …). A part whose data or weights are missing costs that part alone.

    Raises BadSettings for an unknown part or option.

    >>> result = pathasst.evaluate(["zero-shot"], data="~/pathology-sets", clip="out/pathclip")
    >>> result.show(); result.refused
    """
    from pathasst.evaluate.suite import EvalSettings, run

    folder = Path(out) if out is not None else Path(tempfile.mkdtemp(prefix="pathasst-eval-"))
    eval_settings = EvalSettings(
        data=Path(data).expanduser() if data is not None else None,
        pairs=tuple(Path(p) for p in pairs),
        clip=clip,
        brain=brain,
        out=folder,
        **settings,
    )
    tables, refused = run(list(parts), eval_settings)
    return Evaluation(tables, refused, folder)


__all__ = ["Evaluation", "evaluate"]
