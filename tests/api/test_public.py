"""The public Python functions, as the README shows them."""

from __future__ import annotations

import ast
import inspect
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from skimage import data

import pathasst as pa
from pathasst.core.errors import BadDataset, BadInput, BadSettings
from pathasst.core.records import Figure
from pathasst.core.resources import examples_dir

DOCUMENTED = ["PathAsst", "PathCLIP", "ask", "collect", "curate", "cut_panels", "evaluate", "instruct", "slide", "split_caption"]
PUBLIC = {*DOCUMENTED, "papers", "tools", "train"}


def python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def test_importing_the_package_loads_no_room_and_no_large_library() -> None:
    loaded = python("import sys, pathasst\nprint(*sorted(m for m in sys.modules if '.' not in m or m.startswith('pathasst')))")
    assert not {"torch", "numpy", "pydantic", "pyarrow"} & set(loaded.split())
    assert [m for m in loaded.split() if m.startswith("pathasst.")] == []


def test_the_public_names_are_listed_and_stay_public_when_rooms_are_imported() -> None:
    assert set(dir(pa)) >= PUBLIC
    from pathasst.papers.index import PaperIndex

    assert callable(pa.tools.segment)
    assert pa.papers.PaperIndex is PaperIndex  # the room's own names can still be reached
    with pytest.raises(AttributeError):
        pa.no_such_name  # noqa: B018


@pytest.mark.parametrize("name", DOCUMENTED)
def test_every_public_function_has_a_docstring_with_errors_and_an_example(name: str) -> None:
    from pathasst.api import assistant, evaluate, line, models, slides

    thing = next(getattr(m, name) for m in (line, evaluate, assistant, models, slides) if hasattr(m, name))
    words = inspect.getdoc(thing) or ""
    assert ">>> " in words
    assert "Raises" in words or name == "split_caption"
    for example in (row.strip()[4:] for row in words.splitlines() if row.strip().startswith(">>> ")):
        ast.parse(example)


def test_the_examples_of_the_docstrings_run_as_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pathasst.api import line, models

    monkeypatch.chdir(tmp_path)
    shutil.copytree(examples_dir() / "article", "articles")
    field = Image.fromarray(data.immunohistochemistry())
    Path("slides").mkdir()
    for file in ("field.png", "figure.jpg", "slides/1.png"):
        field.save(file)
    names: dict[str, Any] = {"pathasst": pa}
    for thing in (line.collect, line.split_caption, line.cut_panels, models.PathCLIP):
        for row in (inspect.getdoc(thing) or "").splitlines():
            if row.strip().startswith(">>> "):
                exec(row.strip()[4:], names)
    assert names["figures"].rows and Path("hits.png").is_file()


def test_a_caption_is_split_and_a_figure_cut(tmp_path: Path) -> None:
    parts = pa.split_caption("(A) Normal colon, H&E. (B) Adenocarcinoma, Ki-67.")
    assert [part.letter for part in parts] == ["A", "B"]
    rng = np.random.default_rng(0)
    figure = np.full((220, 460, 3), 255, np.uint8)
    figure[10:210, 10:210] = rng.integers(60, 200, (200, 200, 3))
    figure[10:210, 250:450] = rng.integers(60, 200, (200, 200, 3))
    Image.fromarray(figure).save(tmp_path / "figure.png")
    for image in (figure, Image.fromarray(figure), tmp_path / "figure.png", str(tmp_path / "figure.png")):
        boxes = [panel.box for panel in pa.cut_panels(image)]
        assert len(boxes) == 2
        assert np.allclose(boxes[0], (10, 10, 210, 210), atol=3)


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory):
    return pa.collect(examples_dir() / "article", tmp_path_factory.mktemp("api") / "figures", progress=False)


def test_collect_gives_a_dataset_that_iterates_and_counts(figures) -> None:
    assert figures.rows == len(figures) == len(list(figures)) > 0
    assert isinstance(figures.head(1)[0], Figure)
    assert str(figures.rows) in repr(figures)
    with pytest.raises(BadDataset, match="Figure rows"):
        from pathasst.api.line import Pairs

        Pairs(figures.folder)


def test_curate_and_instruct_take_what_the_step_before_gave(figures, tmp_path: Path) -> None:
    pairs = pa.curate(figures, tmp_path / "pairs", select="", similarity="none", letters=False, progress=False)
    assert pairs.rows > 0
    assert pairs.report(tmp_path / "report.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    conversations = pa.instruct(pairs, tmp_path / "conversations", tool_conversations=4, min_words=2, progress=False)
    assert {c.kind for c in conversations} >= {"invoke"}


def test_wrong_settings_name_what_is_known(figures, tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match="did you mean select"):
        pa.curate(figures, tmp_path / "x", selekt="")
    with pytest.raises(BadSettings, match="query or ids"):
        pa.collect.pmc()
    with pytest.raises(BadSettings, match="no part is called"):
        pa.evaluate(["taste"], out=tmp_path / "eval")


def test_without_a_folder_the_dataset_is_temporary_and_removed_at_the_end() -> None:
    code = (
        "import pathasst as pa; from pathasst.core.resources import examples_dir\n"
        "print(pa.collect(examples_dir() / 'article', progress=False).folder)"
    )
    folder = Path(python(code).splitlines()[-1])
    assert folder.name.startswith("pathasst-")
    assert not folder.exists()


def test_tools_are_functions_and_their_results_are_typed() -> None:
    assert set(pa.tools.names()) == {n for n in dir(pa.tools) if n in pa.tools.names()}
    assert "Ki67" in pa.tools.card("ki67_cells").purpose
    with pytest.raises(BadInput):
        pa.tools.run("segment", np.zeros((64, 64), np.uint8))
    with pytest.raises(BadSettings, match="no tool is called"):
        pa.tools.run("x_ray")


def test_a_result_is_detections_picture_and_numbers() -> None:
    from pathasst.api.tools import Result
    from pathasst.core.records import Annotation, Picture, ToolResult
    from pathasst.imaging.pictures import encode_png

    marks = [
        Annotation(kind="point", label="positive", coordinates=[10.0, 20.0], score=0.9),
        Annotation(kind="box", label="negative", coordinates=[1.0, 2.0, 5.0, 6.0], score=0.5),
    ]
    picture = Picture(name="cells", image=encode_png(np.zeros((8, 9, 3), np.uint8)))
    result = Result(
        ToolResult(name="t", text="two", numbers={"n": 2}, annotations=marks, pictures=[picture], warnings=["Blurred."])
    )
    assert result.objects.xyxy.tolist() == [[9.0, 19.0, 11.0, 21.0], [1.0, 2.0, 5.0, 6.0]]
    assert result.objects.data["class_name"].tolist() == ["positive", "negative"]
    assert result.picture is not None and result.picture.size == (9, 8)
    assert result.warnings == ["Blurred."]
    assert len(Result(ToolResult(name="t")).objects) == 0


def test_pathclip_classifies_embeds_and_searches(tmp_path: Path) -> None:
    clip = pa.PathCLIP()
    rng = np.random.default_rng(1)
    pictures = [rng.integers(0, 255, (64, 64, 3), dtype=np.uint8) for _ in range(3)]
    odds = clip.classify(pictures[0], ["lung adenocarcinoma", "a blood smear"])
    assert abs(sum(odds.values()) - 1) < 1e-5
    assert list(odds.values()) == sorted(odds.values(), reverse=True)
    assert clip.embed(pictures).shape[0] == 3
    for n, picture in enumerate(pictures):
        Image.fromarray(picture).save(tmp_path / f"{n}.png")
    hits = clip.search(tmp_path, "signet ring cells", k=2)
    assert len(hits) == 2
    assert hits.sheet().size[0] > 0


def test_trainings_take_settings_as_keywords_and_refuse_unknown_ones(tmp_path: Path) -> None:
    for train in (pa.train.classifier, pa.train.segment, pa.train.router):
        with pytest.raises(BadSettings, match="steeps"):
            train(tmp_path, tmp_path / "out", steeps=3)
    with pytest.raises(BadDataset):
        pa.train.classifier(tmp_path, tmp_path / "out", steps=1)


def test_a_slide_is_opened(tmp_path: Path) -> None:
    pytest.importorskip("openslide")
    Image.fromarray(np.full((300, 400, 3), 200, np.uint8)).save(tmp_path / "plain.tif")
    with pa.slide(tmp_path / "plain.tif", um_per_px=0.5) as slide:
        assert slide.size == (400, 300)
        assert slide.um_per_px == 0.5
