from __future__ import annotations

from curate_samples import compound, figure, texture
from typer.testing import CliRunner

from pathasst.cli.main import app
from pathasst.core.records import Pair
from pathasst.dataset import read


def test_curate_writes_pairs_a_report_and_says_what_went(figures_dataset, tmp_path):
    sheet = compound([texture(1), texture(2)], 2, "ab")
    caption = "Renal biopsies. (a) Large glomeruli are seen. (b) Pale tubules are seen."
    folder = figures_dataset({"00000": [figure("f1", sheet, caption), figure("f2", None, "A tumour.")]})
    out = tmp_path / "pairs"
    run = CliRunner().invoke(app, ["curate", folder, "--out", str(out), "--select", "", "--similarity", "none"])
    assert run.exit_code == 0, run.output
    assert "2 figures → 2 pairs" in run.output
    assert "1 × no_picture" in run.output
    assert (out / "report.html").is_file()
    assert [p.panel.letter for p in read(out, Pair)] == ["A", "B"]


def test_help_has_examples():
    assert "Example: pathasst curate" in CliRunner().invoke(app, ["curate", "--help"]).output
    assert "Example: pathasst train select" in CliRunner().invoke(app, ["train", "select", "--help"]).output
