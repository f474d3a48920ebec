"""The router alone on files of requests: right tools or rightly none, false calls, arguments, milliseconds a request.

python benchmarks/router_requests.py FOLDER_OR_ID [FILE …] [--wrong]; without files: every one that there is. Looking
counts as no call (`evaluate.toolchoice`). 95 % intervals, bootstrap by request, 1,000 draws, seed 0.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch

from pathasst.core.statistics import mean_interval
from pathasst.evaluate.toolchoice import judge, load_requests
from pathasst.router import Router
from pathasst.tools.registry import FURTHER, all_specs, tool_class

HERE = Path(__file__).parent / "data"
FILES = ("plain_requests", "tool_requests_languages", "tool_requests_dev")


def main() -> None:
    """Print a line a file and group."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("router")
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--wrong", action="store_true", help="Print the requests that went wrong.")
    options = parser.parse_args()
    torch.set_num_threads(1)
    router = Router.load(options.router)
    specs = [*all_specs(), *(tool_class(name).spec() for name in FURTHER)]
    router.route("Hello", specs)
    for path in options.files or [None, *(HERE / f"{name}.yaml" for name in FILES)]:
        groups: dict[str, list[tuple[bool, bool | None, bool | None]]] = {}
        started = time.process_time()
        requests = load_requests(path)
        for request in requests:
            route = router.route(
                request.say, specs, pictures=int({request.kind, request.kind_before} != {"none"}), turns=request.before
            )
            calls = [[c.name, c.arguments] for c in route.calls if c.name not in ("look", "similar_cases")]
            verdict = judge(request, {"calls": calls})
            false = bool(calls) if not request.wanted else None
            for group in ("all", request.group):
                groups.setdefault(group, []).append((verdict["right"], false, verdict["arguments"]))
            if options.wrong and (not verdict["right"] or verdict["arguments"] is False):
                near = f" near {', '.join(route.alternatives)}" if route.alternatives else ""
                print(
                    f"  {request.id} {request.say!r} wanted {list(request.wanted)} {request.arguments or ''} got {calls} "
                    f"{route.reason} {route.confidence:.2f}{near}"
                )
        spent = 1000 * (time.process_time() - started) / len(requests)
        print(f"{path.stem if path else 'requests'}: {spent:.0f} ms of one core a request")
        for group, rows in groups.items():
            text = ""
            for place, name in enumerate(("right", "false calls", "arguments")):
                values = [float(v) for row in rows if (v := row[place]) is not None]
                if values:
                    share = mean_interval(values)
                    text += f", {name} {share.value:.3f} [{share.low:.3f}, {share.high:.3f}]"
            print(f"  {group}: n {len(rows)}{text}")


if __name__ == "__main__":
    main()
