import subprocess
import sys

import pytest

from pathasst.core.errors import BadDataset
from pathasst.papers import versions
from pathasst.papers.versions import (
    RECORD,
    SEGMENTS,
    VERSIONS,
    Version,
    building,
    current,
    listing,
    publish,
    sweep,
    verify,
    writing,
)


def make(home, number, segments=()):
    with building(home, f"v{number:06d}", VERSIONS) as folder:
        (folder / "data").write_text(f"content {number}")
        version = Version(number=number, created="now", embedder="minilm", segments=list(segments), files=listing(folder))
        (folder / RECORD).write_text(version.model_dump_json())
    publish(home, number)


def test_the_published_version_is_the_current_one(tmp_path):
    make(tmp_path, 1)
    make(tmp_path, 2)
    assert current(tmp_path).number == 2
    assert verify(tmp_path) == []


@pytest.mark.parametrize(
    "damage",
    [
        lambda home: (home / "CURRENT").unlink(),
        lambda home: (home / "CURRENT").write_text("two"),
        lambda home: (home / VERSIONS / "v000001" / RECORD).write_text("{"),
        lambda home: (home / VERSIONS / "v000001" / RECORD).unlink(),
    ],
)
def test_no_or_a_damaged_index_is_told_with_the_command(tmp_path, damage):
    make(tmp_path, 1)
    damage(tmp_path)
    with pytest.raises(BadDataset, match="pathasst papers build"):
        current(tmp_path)


@pytest.mark.parametrize(
    ("damage", "word"),
    [
        (lambda p: p.unlink(), "missing"),
        (lambda p: p.write_text("x"), "bytes"),
        (lambda p: p.write_text("kontent 1"), "sha256"),
    ],
)
def test_verification_finds_damage(tmp_path, damage, word):
    make(tmp_path, 1)
    damage(tmp_path / VERSIONS / "v000001" / "data")
    (fault,) = verify(tmp_path)
    assert word in fault


def test_an_error_leaves_the_last_good_version(tmp_path):
    make(tmp_path, 1)
    with pytest.raises(RuntimeError), building(tmp_path, "v000002", VERSIONS) as folder:
        (folder / "half").write_text("")
        raise RuntimeError
    assert current(tmp_path).number == 1
    assert [p.name for p in (tmp_path / VERSIONS).iterdir()] == ["v000001"]


def test_sweeping_keeps_only_what_is_in_use(tmp_path):
    make(tmp_path, 1)
    make(tmp_path, 2)
    for name in (f"{versions.BUILDING}-s000009", "s000001"):
        (tmp_path / SEGMENTS / name).mkdir(parents=True)
    sweep(tmp_path)
    assert [p.name for p in (tmp_path / VERSIONS).iterdir()] == ["v000002"]
    assert list((tmp_path / SEGMENTS).iterdir()) == []


HOLD = """
import sys, time
from pathlib import Path
from pathasst.papers.versions import writing
with writing(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_one_process_writes_at_a_time(tmp_path):
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(BadDataset, match="another process"), writing(tmp_path):
            pass
        other.kill()  # a crash gives the right back
    with writing(tmp_path):
        pass
