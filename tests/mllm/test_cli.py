from __future__ import annotations

import pytest
from typer.testing import CliRunner

from pathasst.cli.main import app
from pathasst.core import weights

from .conftest import colours, write


@pytest.mark.skipif(not weights.present("smollm2-135m"), reason="pathasst models pull smollm2-135m")
def test_show_mask_paints_the_supervised_words(tmp_path):
    write(tmp_path, colours(4))
    args = ["show-mask", str(tmp_path), "--kind", "describe", "--number", "1"]
    shown = CliRunner().invoke(app, args, env={"COLUMNS": "200"})
    assert shown.exit_code == 0, shown.output
    assert "c1: " in shown.output
    assert "<image>×49" in shown.output
    assert "⟦It is red.<|im_end|>⟧" in shown.output
