"""Leave-one-dataset-out: macro F1 on a set that was never trained on, by words alone, beside what needs no training on pictures.

python benchmarks/clip_leave_out.py --pairs out/pairs-labels --out out/left-out [--only NAME …]

- colour words: ridge regression from colour histograms to the embeddings of the same captions
- untrained: the same tower with fresh projections; chance: guessing with equal odds
"above": whether the interval (95 %, bootstrap over originals, 1000 draws, seed 0) of the single prompt or of the ensemble lies
above that of the baseline without touching it; "below": both lie below it. --out keeps the tower's features, so that a second run
takes seconds a set.
"""

from __future__ import annotations

import sys
from typing import Any

from measured import command_line, save

from pathasst.clip.leave_one_out import LeaveOutRecipe, LeftOutScores, leave_one_out
from pathasst.core.statistics import Interval

COLUMNS = ["task", "n (originals)", "single prompt", "ensemble", "colour words", "untrained", "chance"]
AGAINST = ["against colour words", "against untrained", "against chance"]


def main() -> None:
    """Train, measure, print."""
    parser = command_line(__doc__)
    parser.add_argument("--pairs", required=True)
    parser.add_argument("--out", required=True, help="folder of the runs, which may hold features of an earlier one")
    parser.add_argument("--recipe", default="embedded")
    parser.add_argument("--only", nargs="*", default=[], help="names of sets; default: all")
    given = parser.parse_args()
    found = leave_one_out(
        LeaveOutRecipe.load(given.recipe),
        [given.pairs],
        given.out,
        only=given.only,
        report=lambda f: print(f.task, file=sys.stderr),
    )
    rows = [_row(f) for f in found]
    for row in rows:
        print("| " + " | ".join(str(cell) for cell in row) + " |")
    kept = {f.task: {"single prompt": f.zero_shot, "colour words": f.colour, "above all": f.above} for f in found}
    save(given.json, {**kept, "table": {"columns": COLUMNS + AGAINST, "rows": rows}})


def _row(left: LeftOutScores) -> list[Any]:
    chance = Interval(left.chance, left.chance, left.chance)
    words = [verdict(left, i) for i in (left.colour, left.untrained, chance)]
    scores = [left.zero_shot, left.ensemble, left.colour, left.untrained, f"{left.chance:.3f}"]
    return [left.task, f"{left.n} ({left.clusters})", *scores, *words]


def verdict(left: LeftOutScores, baseline: Interval) -> str:
    """Where the intervals of zero-shot lie beside that of a baseline."""
    ours = (left.zero_shot, left.ensemble)
    if any(one.low > baseline.high for one in ours):
        return "above"
    return "below" if all(one.high < baseline.low for one in ours) else "touch"


if __name__ == "__main__":
    main()
