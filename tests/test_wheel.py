"""The wheel holds all that an installed PathAsst needs. `make wheel` installs it into an empty environment as well."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TRY = """
import json, pathlib, pathasst as pa
from pathasst.core import weights
from pathasst.core.recipes import recipe_path
from pathasst.core.resources import example_article
from skimage.data import immunohistochemistry
assert example_article().is_relative_to(pathlib.Path(pa.__file__).parent)
numbers = pa.tools.ki67_cells(immunohistochemistry(), um_per_px=0.5).numbers
print(json.dumps([pa.__file__, str(recipe_path("clip", "embedded")), str(weights.shipped_dir()), numbers]))
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the wheel puts into site-packages."""
    folder = tmp_path_factory.mktemp("wheel")
    built = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)], cwd=ROOT, capture_output=True, text=True
    )
    assert built.returncode == 0, built.stderr
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def test_it_runs_away_from_the_checkout(installed: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    environment.pop("PATHASST_MODELS", None)
    tried = subprocess.run([sys.executable, "-c", TRY], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert tried.returncode == 0, tried.stderr
    *places, numbers = json.loads(tried.stdout.splitlines()[-1])
    assert all(Path(place).is_relative_to(installed) for place in places)
    assert numbers


def test_no_data_set_and_no_test_is_inside(installed: Path) -> None:
    names = {path.relative_to(installed).parts[0] for path in installed.rglob("*") if path.is_file()}
    assert {name for name in names if not name.endswith(".dist-info")} == {"pathasst"}
    assert (installed / "pathasst" / "py.typed").is_file()
