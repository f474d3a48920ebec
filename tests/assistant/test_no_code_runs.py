"""Nothing in the package runs what it reads: no eval, no pickle, no shell. Read off the source itself, every file of it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pathasst

SOURCE = Path(pathasst.__file__).parent
RESTRICTED = {"evaluate/pathvqa_data.py"}  # reads the authors' pickles with an Unpickler that knows a closed list of names
CALLS = {"eval", "exec", "compile", "__import__"}
MODULES = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"}
METHODS = {
    "os": {"system", "popen", "execv", "execve", "spawnl", "spawnv"},
    "yaml": {"load", "unsafe_load", "full_load"},
    "subprocess": {"getoutput", "getstatusoutput"},
}


def faults(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        function, named = node.func, {k.arg: k.value for k in node.keywords}
        where = f"{file.relative_to(SOURCE)}:{node.lineno}"
        if isinstance(function, ast.Name) and function.id in CALLS:
            yield f"{where} {function.id}"
        if isinstance(named.get("shell"), ast.Constant) and named["shell"].value:  # type: ignore[union-attr]
            yield f"{where} shell=True"
        if not isinstance(function, ast.Attribute) or not isinstance(function.value, ast.Name):
            continue
        owner, method = function.value.id, function.attr
        if owner in MODULES or method in METHODS.get(owner, ()):
            yield f"{where} {owner}.{method}"
        if (owner, method) == ("torch", "load"):
            only = named.get("weights_only")
            if not (isinstance(only, ast.Constant) and only.value is True):
                yield f"{where} torch.load without weights_only=True"
        pickled = named.get("allow_pickle")
        if (owner, method) in (("np", "load"), ("numpy", "load")) and isinstance(pickled, ast.Constant) and pickled.value:
            yield f"{where} numpy.load with allow_pickle"


def test_no_eval_no_pickle_no_shell() -> None:
    files = [f for f in SOURCE.rglob("*.py") if f.relative_to(SOURCE).as_posix() not in RESTRICTED]
    assert len(files) > 100
    assert [fault for file in files for fault in faults(file)] == []


def test_the_search_finds_what_it_looks_for(monkeypatch: object) -> None:
    bad = 'eval("1")\nos.system("id")\npickle.loads(b"")\ntorch.load("x")\nsubprocess.run("id", shell=True)\n'
    file = SOURCE / "imagined.py"
    monkeypatch.setattr(Path, "read_text", lambda self, encoding=None: bad)  # type: ignore[attr-defined]
    assert len(list(faults(file))) == 5
