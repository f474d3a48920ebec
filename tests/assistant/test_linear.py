"""Whatever touches a person's, a model's or an abstract's text takes time in proportion to its length.

A pattern that goes back over what it has read holds the interpreter, and with it everybody's requests: 8 kB of `![a](` once took
39 s. Each function gets the worst strings, the first of them a megabyte long, in a process of its own, whose time limit
only ends a hang: what was quadratic took hours for these.
"""

from __future__ import annotations

import ast
import importlib
import re
import signal
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pathasst.assistant import citations, sanitize
from pathasst.assistant.checker import Evidence, Sources
from pathasst.assistant.checking import Sieve
from pathasst.assistant.grounding import Grounding
from pathasst.assistant.repair import calls_in
from pathasst.assistant.streaming import Speech
from pathasst.core.records import Hit
from pathasst.core.text import sentences
from pathasst.curate.captions.refine import refine
from pathasst.curate.captions.split import split
from pathasst.llm.tool_calls import loads_leniently
from pathasst.router import slot_values

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
    "A. ",
]
MEGABYTE = ("![a](", " ")
LIBRARY = {str(n): Hit(pmid=str(n), title="t", passage="word " * 200) for n in range(20)}
EVIDENCE = Sources([Evidence("ki67_cells", "3 of 130 cells; Ki67 index 2.3 %.")])


def streamed(text: str) -> None:
    speech = Speech({}, Sieve(EVIDENCE, Grounding.MARKED))
    for n in range(0, len(text), 50):
        speech.add(text[n : n + 50])
    speech.close()


FUNCTIONS: dict[str, Callable[[str], object]] = {
    "without_links": sanitize.without_links,
    "for_brain": sanitize.for_brain,
    "as_data": sanitize.as_data,
    "citations": lambda t: citations.check(t, {}),
    "figures": lambda t: citations.unbacked_figures(t, [t[: 10**5]]),
    "misplaced": lambda t: citations.misplaced(t, LIBRARY),
    "calls": lambda t: (calls_in(t, ["a_b"]), loads_leniently(t), calls_in("<tool_call>" + t, ["a_b"])),
    "streaming": streamed,
    "sentences": sentences,
    "captions": lambda t: (refine(t), split(t)),
    "values": lambda t: [
        *(list(f(t)) for f in (slot_values.amounts, slot_values.numbers, slot_values.places)),
        slot_values.number_in(t),
        slot_values.scale(t),
        slot_values.years(t),
    ],
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_worst_strings_take_no_longer_than_others(name: str, forked: Callable[..., list[int]]) -> None:
    def read_all() -> None:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)  # ends the process also while a pattern holds the interpreter
        signal.alarm(300)
        for worst in WORST:
            size = 10**6 if worst in MEGABYTE else 30_000
            print(repr(worst), flush=True)
            FUNCTIONS[name]((worst * (size // len(worst) + 1))[:size] + "x")

    assert forked(read_all) == [0], "the last string printed hangs"


parts = re._parser  # type: ignore[attr-defined]


def nullable(items: list) -> bool:
    return all(parts.SubPattern(parts.State(), [item]).getwidth()[0] == 0 for item in items)


def nested(items: list) -> bool:
    """Whether something that repeats without end repeats, alone, what itself does."""
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


def is_nested(pattern: str | bytes, flags: int = 0) -> bool:
    try:
        return nested(list(parts.parse(pattern, flags)))
    except (re.error, OverflowError):  # words, no pattern
        return False


def folded(node: ast.expr, names: dict[str, Any]) -> str | bytes | None:
    """The pattern that an expression of a module makes, with "x" for what only a call knows, such as an escaped word."""
    if isinstance(node, ast.JoinedStr):
        return "".join(str(folded(v.value if isinstance(v, ast.FormattedValue) else v, names)) for v in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = folded(node.left, names), folded(node.right, names)
        return left + right if isinstance(left, type(right)) else None  # type: ignore[operator]
    try:
        value = eval(compile(ast.Expression(node), "pattern", "eval"), dict(names))  # our own source
    except Exception:  # noqa: BLE001 - a name that only a call knows
        value = "x"
    return value if isinstance(value, str | bytes) else getattr(value, "pattern", "x")


def compiled(value: Any, depth: int = 3) -> Iterator[re.Pattern[Any]]:
    """Patterns in a module's values: alone, in tables, in the fields of records."""
    if isinstance(value, re.Pattern):
        yield value
    elif depth and isinstance(value, dict):
        for entry in [*value, *value.values()]:
            yield from compiled(entry, depth - 1)
    elif depth and isinstance(value, list | tuple | set | frozenset):
        for entry in value:
            yield from compiled(entry, depth - 1)
    elif depth and is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            yield from compiled(getattr(value, field.name, None), depth - 1)


def patterns_of(file: Path) -> Iterator[tuple[int, str | bytes, int]]:  # noqa: C901 - one walk
    """Line, pattern and flags of every regular expression of a source file.

    Those that are put together, by an f-string, a sum or a join, are read from the imported module: what it has compiled, what
    its functions would compile, and, where they take a pattern from a table, every text of the module.
    """
    tree = ast.parse(file.read_text(encoding="utf-8"))
    calls = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "re"
        and node.func.attr != "escape"
        and node.args
    ]
    together = [call for call in calls if not isinstance(call.args[0], ast.Constant)]
    for call in calls:
        if isinstance(call.args[0], ast.Constant):
            yield call.lineno, call.args[0].value, re.VERBOSE if "VERBOSE" in ast.unparse(call) else 0
    if not together:
        return
    name = ".".join(("pathasst", *file.relative_to(SOURCE).with_suffix("").parts))
    module = importlib.import_module(name.removesuffix(".__init__"))
    for value in list(vars(module).values()):
        for pattern in compiled(value):
            yield 0, pattern.pattern, pattern.flags & re.VERBOSE
    for call in together:
        pattern = folded(call.args[0], vars(module))
        if pattern is not None:
            yield call.lineno, pattern, re.VERBOSE if "VERBOSE" in ast.unparse(call) else 0
    if any(isinstance(call.args[0], ast.Name | ast.Attribute | ast.Subscript | ast.BoolOp) for call in together):
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.lineno, node.value, 0


def test_no_pattern_repeats_what_is_repeated() -> None:
    """`(a+)+` tries every way to part what it reads: its time doubles with each character. Assembled patterns are walked, too."""
    faults, count = [], 0
    for file in sorted(SOURCE.rglob("*.py")):
        for line, pattern, flags in patterns_of(file):
            count += 1
            if is_nested(pattern, flags):
                faults.append(f"{file.relative_to(SOURCE)}:{line}: {pattern!r:.100}")
    assert not faults
    assert count > 400


@pytest.mark.parametrize(
    ("source", "nests"),
    [
        ("import re\nA = re.compile(r'(?:a+)+')", True),
        ("import re\nA = re.compile(r'x(\\s*b?)*')", True),
        ("import re\nA = re.compile(r'(?:a+b)+')", False),
        ("import re\nB = 'a+'\nA = re.compile(f'(?:{B})*')", True),
        ("import re\nB = ['a', 'b*']\nA = [re.compile(f\"(?:{'|'.join(B)})+\")]", False),  # an alternation: not seen
        ("import re\nB = ['b*']\nA = [re.compile(f\"(?:{'|'.join(B)})+\")]", True),
        ("import re\nB = r'\\s+'\ndef f(word): return re.search('(?:' + B + ')+', word)", True),
        ("import re\nB = r'\\s+'\ndef f(word): return re.search(f'(?:{B}{re.escape(word)})+', word)", False),
        ("import re\nB = ('(?:a+)*',)\ndef f(word): return [re.search(p, word) for p in B]", True),
    ],
)
def test_the_walk_sees(source: str, nests: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "sample.py"
    file.write_text(source)
    names: dict[str, Any] = {}
    exec(source, names)
    monkeypatch.setattr(importlib, "import_module", lambda name: SimpleNamespace(**names))
    monkeypatch.setitem(globals(), "SOURCE", tmp_path)
    assert any(is_nested(pattern, flags) for _, pattern, flags in patterns_of(file)) is nests
