"""The router alone on files of requests: right tools or rightly none, false calls, arguments, reasons, milliseconds a request.

python benchmarks/router_requests.py FOLDER_OR_ID [FILE …] [--wrong]; without files: every one that there is. YAML has the form
of `evaluate/requests.yaml`; JSONL has a request a line (`Row`), with every set of tools that is right. Looking counts as no
call unless a request asks for it. 95 % intervals, bootstrap by request, 1,000 draws, seed 0.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from pathasst.core.records import ToolCall, ToolSpec, Turn
from pathasst.core.statistics import mean_interval
from pathasst.evaluate.toolchoice import load_requests, same_argument
from pathasst.router import Reason, Route, Router
from pathasst.tools.registry import FURTHER, all_specs, tool_class

HERE = Path(__file__).parent / "data"
FILES = (
    "plain_requests.yaml",
    "tool_requests_languages.yaml",
    "tool_requests_dev.yaml",
    "tool_requests_dev_languages.jsonl",
    "fresh_requests.jsonl",
    "fresh_requests_2.jsonl",
    "fresh_requests_3.jsonl",
    "fresh_requests_4.jsonl",
)
BESIDE = {"look", "similar_cases"}  # no call where a request does not ask for them
MEASURES = ("right", "false calls", "arguments", "reason")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A request with what is right."""

    id: str
    say: str
    groups: tuple[str, ...]
    pictures: int
    tools: tuple[frozenset[str], ...]  # each set is right; the empty one: no call
    arguments: dict[str, Any] = field(default_factory=dict)  # what the words fix, whichever call has it
    reasons: tuple[str, ...] = ()  # why there is no call; empty: not judged
    before: tuple[Turn, ...] = ()


def rows_of(path: Path | None) -> Iterator[Row]:
    """The requests of a file; of `evaluate/requests.yaml` by default."""
    if path is None or path.suffix != ".jsonl":
        for request in load_requests(path):
            yield Row(
                id=request.id,
                say=request.say,
                groups=(request.group,),
                pictures=int({request.kind, request.kind_before} != {"none"}),
                tools=_as_now(frozenset(request.expected), request.say),
                arguments=request.arguments,
                before=request.before,
            )
        return
    for line in path.read_text(encoding="utf-8").splitlines():
        node = json.loads(line)
        yield Row(
            id=node["id"],
            say=node["say"],
            groups=(node["language"], node["kind"]),
            pictures=node["pictures"],
            tools=tuple(map(frozenset, node["tools"])),
            arguments=node.get("arguments", {}),
            reasons=tuple(node.get("reasons", ())),
            before=tuple(turn for earlier in node.get("before", ()) for turn in _turns(earlier)),
        )


def _as_now(tools: frozenset[str], say: str) -> tuple[frozenset[str], ...]:
    """What is right now that nuclei have a tool of their own: these files were written when `segment` was asked for them."""
    now = frozenset("he_nuclei" if n == "segment" else n for n in tools)
    return (tools, now) if now != tools and re.search(r"nucle|kern|noyau|núcleo|核", say, re.IGNORECASE) else (tools,)


def _turns(earlier: dict[str, Any]) -> tuple[Turn, ...]:
    name, arguments = earlier["call"]
    call = ToolCall(name=name, arguments=arguments, id="call_1")
    return (
        Turn(role="user", content=earlier["say"]),
        Turn(role="assistant", tool_calls=[call]),
        Turn(role="tool", content=earlier["result"], tool=name),
        Turn(role="assistant", content=earlier["result"]),
    )


def judged(row: Row, route: Route) -> dict[str, float]:
    """1 or 0 for each of MEASURES that the request is a question of."""
    wanted = frozenset().union(*row.tools)
    meant = {c.name for c in route.calls} if route.reason is not Reason.NOT_OFFERED else set(route.tools)
    called = frozenset(n for n in meant if n not in BESIDE or n in wanted)
    verdict = {"right": float(called in row.tools)}
    if not wanted:
        verdict["false calls"] = float(bool(called))
    if row.arguments:
        calls = [c.arguments for c in route.calls if c.name in wanted]
        verdict["arguments"] = float(
            any(all(same_argument(k, v, call.get(k)) for k, v in row.arguments.items()) for call in calls)
        )
    if row.reasons:
        verdict["reason"] = float(route.reason in row.reasons)
    return verdict


def further_specs() -> list[ToolSpec]:
    """The tools beside the paper's nine."""
    return [tool_class(name).spec() for name in FURTHER]


def main() -> None:
    """Print a line a file and group."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("router")
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--wrong", action="store_true", help="Print the requests that went wrong.")
    parser.add_argument("--all-only", action="store_true", help="Print no groups.")
    options = parser.parse_args()
    torch.set_num_threads(1)
    router = Router.load(options.router)
    specs = [*all_specs(), *further_specs()]
    router.route("Hello", specs)
    for path in options.files or [None, *(HERE / name for name in FILES)]:
        groups: dict[str, list[dict[str, float]]] = {}
        started = time.process_time()
        rows = list(rows_of(path))
        for row in rows:
            route = router.route(row.say, specs, pictures=row.pictures, turns=row.before)
            verdict = judged(row, route)
            for group in ("all", *row.groups):
                groups.setdefault(group, []).append(verdict)
            if options.wrong and min(verdict["right"], verdict.get("arguments", 1.0)) < 1:
                calls = [(c.name, c.arguments) for c in route.calls]
                print(
                    f"  {row.id} {row.say!r} right {' or '.join(str(sorted(s)) for s in row.tools)} {row.arguments or ''} "
                    f"calls {calls} {route.reason} {route.confidence:.2f} near {', '.join(route.alternatives)}"
                )
        spent = 1000 * (time.process_time() - started) / len(rows)
        print(f"{path.stem if path else 'requests'}: {spent:.0f} ms of one core a request")
        for group, verdicts in list(groups.items())[: 1 if options.all_only else None]:
            text = ""
            for name in MEASURES:
                if values := [v[name] for v in verdicts if name in v]:
                    share = mean_interval(values)
                    text += f", {name} {share.value:.3f} [{share.low:.3f}, {share.high:.3f}] of {len(values)}"
            print(f"  {group}: n {len(verdicts)}{text}")


if __name__ == "__main__":
    main()
