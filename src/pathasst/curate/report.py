"""The report of a curation: what each step kept and dropped, as a Sankey picture and contact sheets, in one HTML file.

Knows the two manifests of `pipeline.run` and the figures they came from. Needs no network and no script: the picture is SVG, the
thumbnails are inside the page.
"""

from __future__ import annotations

import base64
import html
import io
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from pathasst.core.errors import BadDataset, BadInput
from pathasst.core.records import Figure, Pair
from pathasst.curate.pipeline import CANDIDATES
from pathasst.curate.sankey import FlowStep, sankey
from pathasst.dataset import Manifest, ShardStats, read, shard_paths
from pathasst.imaging.pictures import thumbnail

STEPS: dict[str, tuple[str, ...]] = {
    "read": ("no_picture", "no_caption", "unreadable"),
    "licence": ("licence", "retracted"),
    "select": ("not_pathology",),
    "panels": ("panel_not_pathology",),
    "align": ("unaligned",),
    "quality": ("small", "blank", "blurred", "irrelevant", "short_caption", "long_caption", "language"),
    "across": ("duplicate", "leak"),
}
"""Steps in order, with the reasons for which each drops. Up to `select` figures are counted, from `panels` on panels."""
FIGURE_STEPS = ("read", "licence", "select")
EXPLANATIONS = {
    "not_pathology": "With the highest probability of pathology among the figure's panels.",
    "panel_not_pathology": "With the panel's number and probability of pathology; other panels of the figure may be kept.",
    "unaligned": "With the number of the panel and its printed letter, if one was read.",
    "caption_unmatched": "With the sub-caption that found no panel.",
    "duplicate": "With the earlier pair that it repeats.",
    "leak": "With the test, its score and what is repeated of an evaluation set.",
}
"""What stands below the dropped ones' names."""
THUMB = 132
MOST_LEAKS = 200
"""Rows of the table of leaks."""


@dataclass(slots=True)
class Yields:
    """What went in and what is left after each step."""

    figures: int
    pairs: int
    dropped: Counter[str] = field(default_factory=Counter)
    failures: list[ShardStats] = field(default_factory=list)  # shards that failed as a whole

    def of(self, step: str) -> int:
        """How many the step dropped."""
        return sum(self.dropped[r] for r in STEPS[step])

    @property
    def figures_kept(self) -> int:
        return self.figures - sum(self.of(s) for s in FIGURE_STEPS)

    @property
    def panels(self) -> int:
        return self.pairs + sum(self.of(s) for s in STEPS if s not in FIGURE_STEPS)

    def flow(self) -> list[tuple[str, int, int]]:
        """(step, how many come in, how many it drops), figures first, then panels."""
        rows, left = [], self.figures
        for step in STEPS:
            if step == "panels":
                left = self.panels
            rows.append((step, left, self.of(step)))
            left -= self.of(step)
        return rows


def yields(pairs: Path | str) -> Yields:
    """The counts of a finished curation. Raises BadDataset when `pairs` is none."""
    pairs = Path(pairs)
    final, first = Manifest.load(pairs), Manifest.load(pairs / CANDIDATES)
    if final.stage != "curate":
        raise BadDataset(f"{pairs} was made by the stage {final.stage}, not by curate.")
    source = Manifest.load(Path(first.inputs[0]))
    dropped = Counter(first.dropped) + Counter(final.dropped)
    return Yields(source.rows, final.rows, dropped, [*first.failures, *final.failures])


def write_report(pairs: Path | str, out: Path | str | None = None, *, examples: int = 12) -> Path:
    """Write the report of the curation in `pairs` to `out` (default `<pairs>/report.html`) and return its path."""
    pairs = Path(pairs)
    target = Path(out) if out else pairs / "report.html"
    counts = yields(pairs)
    body = [f"<h1>Curation of {html.escape(str(pairs))}</h1>", _summary(counts), _picture(counts), _table(counts)]
    body += [_models(pairs), "<h2>Kept</h2>"]
    examples_of_pairs = ((p.image, p.pair_id, p.caption) for _, p in zip(range(examples * 2), _spread(pairs), strict=False))
    body.append(_sheet(examples_of_pairs))
    body += [*_leaks(pairs), *_dropped_sheets(pairs, examples)]
    target.write_text(_PAGE.replace("@@BODY@@", "\n".join(body)), encoding="utf-8")
    return target


_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width"><title>Curation</title><style>
body{font:15px/1.45 system-ui,sans-serif;max-width:1060px;margin:2em auto;padding:0 1em;color:#222}
h2{margin:1.6em 0 .3em}p{margin:.3em 0 .8em}.note{color:#666;font-size:13px}
.wide{overflow-x:auto}.wide svg{min-width:840px;display:block}
table{border-collapse:collapse}td,th{padding:.2em 1.2em .2em 0;text-align:left;border-bottom:1px solid #ddd}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}
.sheet{display:grid;grid-template-columns:repeat(auto-fill,minmax(158px,1fr));gap:12px}
.sheet figure{margin:0;font-size:12px;line-height:1.35;overflow-wrap:anywhere}
.sheet div{height:136px;background:#f2f3f5;display:flex;align-items:center;justify-content:center;color:#888}
.sheet img{max-width:100%;max-height:132px}.sheet b{display:block;font-size:10.5px;color:#456;margin-top:3px}</style>
@@BODY@@</html>
"""


def _summary(counts: Yields) -> str:
    text = f"<p>{counts.figures} figures, {counts.figures_kept} kept, {counts.panels} panels, <b>{counts.pairs} pairs</b>."
    if counts.dropped["caption_unmatched"]:
        text += f" {counts.dropped['caption_unmatched']} sub-captions found no panel."
    return text + (f" {len(counts.failures)} shards failed and will be tried again.</p>" if counts.failures else "</p>")


def _picture(counts: Yields) -> str:
    steps = [
        FlowStep(step, _unit(step), before, [(r, counts.dropped[r]) for r in STEPS[step] if counts.dropped[r]])
        for step, before, _ in counts.flow()
    ]
    return f"<div class=wide>{sankey(steps, counts.pairs)}</div>"


def _unit(step: str) -> str:
    return "figures" if step in FIGURE_STEPS else "panels"


def _models(pairs: Path) -> str:
    """Which models did it, as the first kept pair has it in its trail."""
    pair = next(iter(read(pairs, Pair, columns=("pair_id", "source", "trail"))), None)
    steps = [m for m in pair.trail if m.step in ("select", "panels", "captions", "refine")] if pair else []
    return f"<p class=note>{html.escape('; '.join(f'{m.step}: {m.by}' for m in steps))}</p>"


def _table(counts: Yields) -> str:
    rows = []
    for step, before, dropped in counts.flow():
        reasons = ", ".join(f"{r.replace('_', ' ')} {counts.dropped[r]}" for r in STEPS[step] if counts.dropped[r])
        rows.append(
            f"<tr><td>{step}</td><td class=n>{before} {_unit(step)}</td><td class=n>{dropped}</td><td>{reasons}</td></tr>"
        )
    return f"<table><tr><th>step</th><th class=n>in</th><th class=n>dropped</th><th>why</th></tr>{''.join(rows)}</table>"


def _spread(pairs: Path) -> Iterator[Pair]:
    """Kept pairs from all over the dataset: the first of each shard in turn, then the rest as they come."""
    later: list[Pair] = []
    for stats in Manifest.load(pairs).shards:
        for n, pair in enumerate(read(pairs / stats.shard, Pair)):
            if n < 4:
                yield pair
            elif len(later) < 24:
                later.append(pair)
    yield from later


def _leaks(pairs: Path) -> list[str]:
    """What repeats something of an evaluation set: left out, or kept and noted; nothing where no set was named."""
    rows = [(d["id"], "left out", d["detail"]) for s in Manifest.load(pairs).shards for d in s.drops if d["reason"] == "leak"]
    for pair in read(pairs, Pair, columns=("pair_id", "source", "trail")):
        rows += [(pair.pair_id, "kept", f"{m.by} {m.score}: {m.note}") for m in pair.trail if m.step == "leakage"]
    if not rows:
        return []
    cells = "".join("<tr>" + "".join(f"<td>{html.escape(str(v))}</td>" for v in row) + "</tr>" for row in rows[:MOST_LEAKS])
    head = f"<h2>Leakage into evaluation sets: {len(rows)}</h2>"
    return [f"{head}<table><tr><th>pair</th><th></th><th>test, score: what it repeats</th></tr>{cells}</table>"]


def _dropped_sheets(pairs: Path, examples: int) -> list[str]:
    """For each reason a sheet of figures from which something was dropped, each once, with what the step said of it."""
    by_reason: dict[str, dict[str, list[str]]] = {}
    for folder in (pairs / CANDIDATES, pairs):
        for stats in Manifest.load(folder).shards:
            for drop in stats.drops:
                some = by_reason.setdefault(drop["reason"], {})
                owner = _figure_of(drop["id"])
                if owner in some or len(some) < examples:
                    part = drop["id"].removeprefix(owner).lstrip(":/")
                    some.setdefault(owner, []).append(": ".join(x for x in (part, drop["detail"]) if x))
    owners = {owner for some in by_reason.values() for owner in some}
    source = Path(Manifest.load(pairs / CANDIDATES).inputs[0])
    figures: dict[str, bytes] = {}
    for shard in shard_paths(source):
        with suppress(BadDataset):  # a damaged shard has no picture to show; the curation has counted it
            figures |= {f.figure_id: f.image for f in read(shard, Figure) if f.figure_id in owners}
    sheets = []
    for reason, some in sorted(by_reason.items()):
        cells = ((figures[owner], owner, " · ".join(details)) for owner, details in some.items() if owner in figures)
        note = f"<p class=note>{html.escape(EXPLANATIONS[reason])}</p>" if reason in EXPLANATIONS else ""
        sheets.append(f"<h2>Dropped: {html.escape(reason.replace('_', ' '))}</h2>{note}{_sheet(cells)}")
    return sheets


def _figure_of(id: str) -> str:
    """The figure behind the id of a figure, a panel ("…/fig1:2") or a sub-caption ("…/fig1/B")."""
    head, _, tail = id.rpartition(":")
    if head and tail.isdigit():
        return head
    parts = id.rsplit("/", 1)
    return parts[0] if len(parts) == 2 and parts[0].count("/") and parts[1].isupper() else id


def _sheet(items: Iterator[tuple[bytes, str, str]]) -> str:
    cells = []
    for image, name, text in items:
        words = html.escape(text[:110]) + ("…" if len(text) > 110 else "")
        cells.append(f"<figure><div>{_thumbnail(image)}</div><b>{html.escape(name)}</b>{words}</figure>")
    return f"<div class=sheet>{''.join(cells)}</div>"


def _thumbnail(image: bytes) -> str:
    try:
        small = thumbnail(image, THUMB)
    except BadInput:
        return "no picture"
    sink = io.BytesIO()
    small.save(sink, "JPEG", quality=80)
    return f'<img alt="" src="data:image/jpeg;base64,{base64.b64encode(sink.getvalue()).decode()}">'
