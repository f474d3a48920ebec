"""Every `python` block of the documentation runs as it stands, one after the other in a folder that holds what they name.

A block whose title says what it needs (a server) is left out; `bash` blocks, which the tutorial alone has: test_tutorial.py.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from PIL import Image

from pathasst import curate
from pathasst.collect.folder import collect_folder
from pathasst.core import weights
from pathasst.core.resources import example_article
from pathasst.instruct.pipeline import InstructSettings
from pathasst.instruct.pipeline import run as instruct
from pathasst.papers.index import default_home
from pathasst.tools.registry import all_specs

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```", flags=re.M | re.S)
PAGES = sorted(p.name for p in (ROOT / "docs").glob("*.md"))
NEEDED = (
    "minilm",
    "smollm2-135m",
    "pathclip-embedded",
    "pathasst-embedded",
    "router-embedded",
    "blood-embedded",
    "ki67-embedded",
)
GOLD = {
    "f1": {
        "caption": "(A) Mucosa. (B) Tumour.",
        "panels": [{"label": x, "caption": t} for x, t in (("A", "Mucosa."), ("B", "Tumour."))],
    }
}


def blocks(page: str, language: str) -> list[tuple[str, str]]:
    """(title, code) of the page's blocks in one language."""
    found = BLOCK.findall((ROOT / "docs" / page).read_text(encoding="utf-8"))
    return [(title.strip(), code) for name, title, code in found if name == language]


EXAMPLES = [(page, n) for page in PAGES for n, (title, _) in enumerate(blocks(page, "python")) if "needs" not in title]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the example article carried through the line, and pictures and sets by the names that the pages use."""
    if lacking := [id_ for id_ in NEEDED if not weights.present(id_)]:
        pytest.skip(f"not fetched: {', '.join(lacking)} (make models)")
    folder = tmp_path_factory.mktemp("examples")
    shutil.copytree(example_article(), folder / "articles" / "article")
    (folder / "pictures").mkdir()
    (folder / "models").symlink_to(weights.shipped_dir())
    with Image.open(example_article() / "demo-001-g003.jpg") as picture:
        for name in ("field.png", "picture.png"):
            picture.save(folder / name)
    with Image.open(example_article() / "demo-001-g001.jpg") as picture:
        picture.save(folder / "colon.png")
    for place in ("eval", "sets/subcaptions"):
        (folder / place).mkdir(parents=True)
    Image.effect_noise((64, 64), 40).convert("RGB").save(folder / "eval" / "other.png")
    (folder / "sets/subcaptions/gold.json").write_text(json.dumps(GOLD), encoding="utf-8")
    out = folder / "out"
    collect_folder(folder / "articles", out / "figures", progress=False)
    curate.run(out / "figures", out / "pairs", curate.CurateSettings(), progress=False)
    instruct([out / "pairs"], out / "conversations", InstructSettings(invoke=20), all_specs(), progress=False)
    return folder


def test_bash_blocks_are_the_tutorials_alone() -> None:
    assert {page for page in PAGES if blocks(page, "bash")} == {"tutorial.md"}
    assert len(EXAMPLES) > 12


@pytest.mark.parametrize(("page", "number"), EXAMPLES)
def test_an_example_runs(workplace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, page: str, number: int) -> None:
    """In this process, one after the other, as in a notebook: a process each would import torch and load the models anew."""
    _, code = blocks(page, "python")[number]
    if "open_default" in code and not (default_home() / "CURRENT").is_file():
        pytest.skip("the embedded collection is not built: pathasst papers build")
    own = tmp_path / "own"  # so that an example that writes finds what the pages before it did not change
    shutil.copytree(workplace, own, symlinks=True)
    monkeypatch.chdir(own)
    exec(compile(code, f"{page}[{number}]", "exec"), {"__name__": "__main__"})
