"""Thresholds of a router's decisions, chosen on requests of development by cost: a wrong answer costs 1, a false call FALSE.

python benchmarks/router_thresholds.py FOLDER_OR_ID FILE … ; `requests` stands for `evaluate/requests.yaml`. The requests are read
once; each setting of a grid is then judged as `router_requests.py` does. Prints the cheapest, for the router's config.json.
"""

from __future__ import annotations

import argparse
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import torch
from router_requests import further_specs, judged, rows_of

from pathasst.router import Router
from pathasst.tools.registry import all_specs

FALSE = 2.0
GRID = {"threshold": (0.4, 0.5, 0.6), "also": (0.4, 0.45, 0.5, 0.6), "lone": (0.2, 0.25, 0.3, 0.4), "sure": (0.1, 0.2, 0.3, 0.4)}


class Once(Router):
    """A router that reads each request once."""

    @cache  # noqa: B019 - lives as long as the command
    def _once(self, words: str, before: tuple[tuple[str, ...], ...]) -> Any:
        return super()._read(words, before)

    def _read(self, words: str, before: Any) -> Any:
        return self._once(words, tuple(map(tuple, before)))


def main() -> None:
    """Print the cost of every setting that is no worse than the present one, the cheapest last."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("router")
    parser.add_argument("files", nargs="+")
    options = parser.parse_args()
    torch.set_num_threads(1)
    router, specs = Once.load(options.router), [*all_specs(), *further_specs()]
    rows = [row for name in options.files for row in rows_of(None if name == "requests" else Path(name))]

    def cost() -> tuple[float, int, int]:
        verdicts = [judged(r, router.route(r.say, specs, pictures=r.pictures, turns=r.before)) for r in rows]
        wrong, false = (sum(v.get(n, 0) for v in verdicts) for n in ("right", "false calls"))
        return len(rows) - wrong + (FALSE - 1) * false, int(len(rows) - wrong), int(false)

    present = cost()
    print(f"{len(rows)} requests, as it is: cost {present[0]:.0f}, wrong {present[1]}, false calls {present[2]}", flush=True)
    own, results = router.config, []
    for values in product(*GRID.values()):
        router.config = own.replace(**dict(zip(GRID, values, strict=True)))
        results.append((*cost(), values))
    for total, wrong, false, values in sorted(results, reverse=True)[-12:]:
        print(f"cost {total:.0f}, wrong {wrong}, false calls {false}: {dict(zip(GRID, values, strict=True))}")


if __name__ == "__main__":
    main()
