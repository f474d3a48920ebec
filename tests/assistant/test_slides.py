"""A question about a whole slide: the tool that it needs runs over all of it."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from typer.testing import CliRunner

pytest.importorskip("openslide", reason="the extra slides is not installed")

from pathasst.assistant.grounding import Grounding
from pathasst.assistant.slides import ask_slide
from pathasst.cli.main import app
from pathasst.core.errors import BadSettings
from pathasst.core.records import ToolCall, Turn
from pathasst.imaging.slides import open_slide
from pathasst.imaging.slides.tissue import find_tissue
from pathasst.router.route import Reason, Route
from pathasst.tools.protocol import Registry


@pytest.fixture(scope="module")
def spots() -> ModuleType:
    spec = importlib.util.spec_from_file_location("spots_of_slides", Path(__file__).parents[1] / "wsi/spots.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Chooser:
    """A brain that composes, and asks for the Ki67 count."""

    name, sees, grounding = "chooser", False, Grounding.COMPOSED

    def route(self, question: str, offered: Any, **_: Any) -> Route:
        return Route(calls=(ToolCall(name="ki67_cells"),), reason=Reason.CALLS, confidence=1.0, tools=("ki67_cells",))

    def reply(self, turns: Any, images: Any, specs: Any) -> Turn:
        raise AssertionError("a composed answer needs no words of the brain")


def test_the_tool_runs_over_the_slide_and_the_answer_is_its_run(
    spots: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = spots.slide_file(tmp_path)
    monkeypatch.setattr("pathasst.assistant.slides.registry_for", lambda brain: Registry({"ki67_cells": spots.Spots()}))
    searches = []
    for module in ("pathasst.assistant.slides", "pathasst.wsi.run"):
        monkeypatch.setattr(f"{module}.find_tissue", lambda slide: searches.append(slide) or find_tissue(slide))
    _, brown = spots.places()
    chosen = {"tile": 512, "overlap": 64}
    with open_slide(file) as slide:
        answer = ask_slide(slide, "What is the Ki67 index?", tmp_path / "out", brain=Chooser(), settings=chosen)
        (step,) = answer.steps
        assert len(searches) == 1
        run = step.result.numbers["slide"]
        assert run["objects"] == 400 and run["score"]["value"] == pytest.approx(100 * brown.mean(), abs=0.01)
        assert answer.text.startswith("Ki67 index of the whole slide 28.7 % (95 % interval 19.9–38.2 %): 115 of 400 tumour cells")
        assert "Hot spot 1" in answer.text and str(tmp_path / "out/ki67_cells") in answer.text
        assert (tmp_path / "out/ki67_cells/objects.geojson").is_file()
        assert [p.name for p in answer.pictures if p.by == "ki67_cells"]
        parts = {p: p.stat().st_mtime_ns for p in (tmp_path / "out/ki67_cells/tiles").rglob("*.parquet")}
        again = ask_slide(slide, "What is the Ki67 index, and is it high?", tmp_path / "out", brain=Chooser(), settings=chosen)
    assert parts and parts == {p: p.stat().st_mtime_ns for p in parts}  # no tile was done again
    assert "of 28.75 % lies from 20 to below 30 %" in again.text and "St Gallen" in again.text


def test_a_slide_needs_a_folder_and_comes_alone(tmp_path: Path) -> None:
    slide, picture = str(tmp_path / "case.svs"), str(tmp_path / "a.png")
    for file in (slide, picture):
        Path(file).write_bytes(b"x")
    for paths, options, words in (([slide], [], "--out"), ([slide, picture], ["--out", str(tmp_path)], "one whole slide")):
        failure = CliRunner().invoke(app, ["ask", *paths, "What is it?", *options]).exception
        assert isinstance(failure, BadSettings) and words in str(failure)
