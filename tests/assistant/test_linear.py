"""Whatever touches a person's, a model's or an abstract's text takes time in proportion to its length.

A pattern that goes back over what it has read holds the interpreter, and with it everybody's requests: 8 kB of `![a](` once took
39 s. Each function gets the worst strings, the first of them a megabyte long, in a process of its own, whose time limit
only ends a hang: what was quadratic took hours for these.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "pathasst"
WORST = [
    "![a](",
    "[",
    "](",
    "[a](b",
    "<",
    " ",
    "\n",
    "( ",
    "PMID ",
    "PMID 1, ",
    "[PMID 1] ",
    "A-",
    "1",
    "1,111",
    "10.1234/-",
    "~",
    "#",
    "note to ",
    "ignore ",
    "<|",
    "*a ",
    "{",
    '{"a":[',
    "<tool_call>",
    "word. ",
    "<think>",
    "</think>",
    "```json\n{",
    "1 um ",
]
FUNCTIONS = {
    "without_links": "from pathasst.assistant.sanitize import without_links as f",
    "for_brain": "from pathasst.assistant.sanitize import for_brain as f",
    "as_data": "from pathasst.assistant.sanitize import as_data as f",
    "citations": "from pathasst.assistant.citations import check\nf = lambda t: check(t, {})",
    "figures": "from pathasst.assistant.citations import unbacked_figures\nf = lambda t: unbacked_figures(t, [t[: 10**5]])",
    "misplaced": (
        "from pathasst.core.records import Hit\nfrom pathasst.assistant.citations import misplaced\n"
        "LIBRARY = {str(n): Hit(pmid=str(n), title='t', passage='word ' * 200) for n in range(20)}\n"
        "f = lambda t: misplaced(t, LIBRARY)"
    ),
    "calls": (
        "from pathasst.assistant.repair import calls_in\n"
        "from pathasst.llm.tool_calls import loads_leniently\n"
        "f = lambda t: (calls_in(t, ['a_b']), loads_leniently(t), calls_in('<tool_call>' + t, ['a_b']))"
    ),
    "streaming": (
        "from pathasst.assistant.streaming import Speech\n"
        "def f(t):\n    s = Speech({})\n    for n in range(0, len(t), 50):\n        s.add(t[n : n + 50])\n    s.close()"
    ),
    "values": (
        "from pathasst.router.slot_values import amounts, number_in, numbers, places, scale\n"
        "f = lambda t: [list(g(t)) for g in (amounts, numbers, places)] + [number_in(t), scale(t)]"
    ),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_worst_strings_take_no_longer_than_others(name: str) -> None:
    script = f"""
name = {name!r}
{FUNCTIONS[name]}
for worst in {WORST!r}:
    size = 10**6 if worst in {WORST[:2]!r} + {WORST[5:6]!r} else 50_000
    text = (worst * (size // len(worst) + 1))[:size]
    print(repr(worst), flush=True)
    f(text + "x")
"""
    try:
        subprocess.run([sys.executable, "-c", script], check=True, timeout=300, stdout=subprocess.PIPE, text=True)
    except subprocess.TimeoutExpired as late:
        done = late.stdout.decode() if isinstance(late.stdout, bytes) else late.stdout or ""
        pytest.fail(f"{name} hangs after {done.splitlines()[-1:]}")


def test_no_pattern_repeats_what_is_repeated() -> None:  # noqa: C901 - one walk through a tree of patterns
    """`(a+)+` tries every way to part what it reads: its time doubles with each character."""
    parts = re._parser  # type: ignore[attr-defined]

    def nullable(items: list) -> bool:
        return all(parts.SubPattern(parts.State(), [item]).getwidth()[0] == 0 for item in items)

    def nested(items: list) -> bool:
        for code, value in items:
            name = str(code)
            if name in ("MAX_REPEAT", "MIN_REPEAT"):
                _, most, body = value
                body = list(body)
                while len(body) == 1 and str(body[0][0]) == "SUBPATTERN":
                    body = list(body[0][1][-1])
                if most == parts.MAXREPEAT:
                    for n, (inner, repeat) in enumerate(body):
                        unbounded = str(inner).endswith("_REPEAT") and repeat[1] == parts.MAXREPEAT
                        if unbounded and nullable([*body[:n], *body[n + 1 :]]):
                            return True
                if nested(body):
                    return True
            elif (name == "SUBPATTERN" and nested(list(value[-1]))) or (
                name == "BRANCH" and any(nested(list(branch)) for branch in value[1])
            ):
                return True
        return False

    assert nested(list(parts.parse(r"(?:a+)+"))) and nested(list(parts.parse(r"x(\s*b?)*")))
    assert not nested(list(parts.parse(r"(?:a+b)+")))
    faults = []
    for file in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args):
                continue
            if not (isinstance(node.func.value, ast.Name) and node.func.value.id == "re"):
                continue
            pattern = node.args[0]
            if isinstance(pattern, ast.Constant) and isinstance(pattern.value, str):
                flags = re.VERBOSE if "VERBOSE" in ast.unparse(node) else 0
                if nested(list(parts.parse(pattern.value, flags))):
                    faults.append(f"{file.relative_to(SOURCE)}:{node.lineno}")
    assert not faults
