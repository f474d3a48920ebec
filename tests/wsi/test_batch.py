from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from spots import Spots, settings
from typer.testing import CliRunner

from pathasst.cli.slide import app
from pathasst.core.errors import BadInput
from pathasst.wsi.batch import find_slides, run_batch


@pytest.fixture
def folder(spots_slide: Path, tmp_path: Path) -> Path:
    """A good slide twice, one of unknown scale, one half copied, one that is none."""
    import tifffile

    place = tmp_path / "slides"
    (place / "below").mkdir(parents=True)
    for name in ("a.tif", "below/a.tif"):
        shutil.copy(spots_slide, place / name)
    (place / "half.tif").write_bytes(spots_slide.read_bytes()[: spots_slide.stat().st_size // 2])
    tifffile.imwrite(
        place / "scale.tif", np.full((600, 600, 3), 244, np.uint8), photometric="rgb", tile=(256, 256), metadata=None
    )
    (place / "text.svs").write_text("no slide")
    (place / "notes.txt").write_text("passed over")
    return place


def test_a_bad_slide_costs_itself_alone(folder: Path, tmp_path: Path) -> None:
    slides = find_slides([folder])
    assert [p.relative_to(folder).as_posix() for p in slides] == ["a.tif", "below/a.tif", "half.tif", "scale.tif", "text.svs"]
    scales = {"scale.tif": 0.5}
    rows = list(run_batch(slides, Spots(), tmp_path / "out", settings(), scales=scales, progress=False))
    first, second, half, scale, text = rows
    assert first.objects == second.objects == 400 and first.score == second.score and first.um_per_px == 0.5
    assert first.folder.endswith("a.tif") and second.folder.endswith("a.tif-2")
    assert "half.tif" in half.error and "cut off" in half.error
    assert "no tissue" in scale.error  # its scale came from the table; without it that would be the reason
    assert "text.svs" in text.error
    with (tmp_path / "out" / "slides.csv").open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["objects"] for row in table] == ["400", "400", "", "", ""] and [bool(row["error"]) for row in table] == [
        False, False, True, True, True,
    ]  # fmt: skip
    (unknown,) = run_batch([folder / "scale.tif"], Spots(), tmp_path / "other", settings(), progress=False)
    assert "--mpp" in unknown.error


def test_the_command_reads_the_table_of_scales(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pathasst.cli.tools.make_tool", lambda name, model=None: Spots())
    table = tmp_path / "scales.csv"
    table.write_text("slide,mpp\nscale.tif,0.5\n", encoding="utf-8")
    command = ["batch", "ki67_cells", str(folder / "scale.tif"), str(folder / "text.svs"), "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, [*command, "--scales", str(table)])
    assert done.exit_code == 0 and "2 slides: 0 done, 2 not usable" in done.output
    assert "no tissue" in (tmp_path / "out" / "slides.csv").read_text(encoding="utf-8")
    with pytest.raises(BadInput, match="no slide"):
        find_slides([tmp_path / "out"])
