"""Test sets are found in their public layouts; what is missing or looks otherwise is named with what to do."""

import pytest

from pathasst.core.errors import BadDataset, BadSettings
from pathasst.evaluate.sets import find, public_sets


def make(root, *files):
    for name in files:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


@pytest.mark.parametrize(
    ("id", "file", "folder"),
    [
        ("crc100k", "NCT-CRC-HE-100K/ADI/a.tif", "NCT-CRC-HE-100K"),
        ("wsss4luad", "WSSS4LUAD/1.training/100018-0-0[1, 0, 0].png", "WSSS4LUAD/1.training"),
        ("lc25000-lung", "LC25000/lung_image_sets/lung_aca/x.jpeg", "LC25000/lung_image_sets"),
        ("lc25000-colon", "lung_colon_image_set/colon_image_sets/colon_n/x.jpeg", "lung_colon_image_set/colon_image_sets"),
        ("pathvqa", "PathVQA/qas/test/test_qa.pkl", "PathVQA"),
        ("pathvqa", "path-vqa/data/test-00000-of-00003.parquet", "path-vqa"),
        ("questions", "questions/pubmedqa_questions.json", "questions"),
    ],
)
def test_public_layouts(tmp_path, id, file, folder):
    with pytest.raises(BadDataset, match=r"Get it: .* Expected: "):
        find(tmp_path, id)
    make(tmp_path, file)
    assert find(tmp_path, id) == tmp_path / folder
    assert find(tmp_path / folder, id) == tmp_path / folder  # the folder itself will do


def test_a_wrong_layout_is_explained(tmp_path):
    make(tmp_path, "NCT-CRC-HE-100K/readme.txt")
    with pytest.raises(BadDataset, match=r"does not look like NCT-CRC-HE-100K. Expected: .*ADI"):
        find(tmp_path, "crc100k")


def test_every_set_says_where_to_get_it(tmp_path):
    for one in public_sets().values():
        assert one.get and one.layout and one.folders and one.holds
        assert one.title in one.missing(tmp_path) and str(tmp_path) in one.missing(tmp_path)
        assert one.layout in one.missing(None) and "--data" in one.missing(None)
        assert "which is no folder" in one.missing(tmp_path / "none") and "no folder" not in one.missing(tmp_path)
    with pytest.raises(BadSettings, match="known:"):
        find(tmp_path, "imagenet")


def test_the_command_lists_every_set_and_tells_all_about_one_to_the_letter(tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from pathasst.cli.evaluate import app

    monkeypatch.setenv("COLUMNS", "300")
    make(tmp_path, "PathVQA/test_qa.pkl", "NCT-CRC-HE-100K/readme.txt")
    shown = CliRunner().invoke(app, ["sets", "--data", str(tmp_path)])
    assert shown.exit_code == 0
    lines = {line.split()[0]: line for line in shown.output.splitlines()[1:-1]}
    assert set(lines) == set(public_sets())
    assert lines["pathvqa"].rstrip().endswith("PathVQA") and lines["crc100k"].rstrip().endswith("no")
    assert all(public_sets()[id].licence in lines[id] for id in public_sets())
    ids = ["figures", "wsss4luad", "subcaptions", "mhist", "crc100k"]
    told = CliRunner().invoke(app, ["sets", *ids, "--data", str(tmp_path)]).output
    assert "does not look like NCT-CRC-HE-100K" in told
    assert all(public_sets()[id].layout in told and public_sets()[id].licence in told for id in ids)
    assert all(public_sets()[id].get in told for id in ids[:-1])
    assert CliRunner().invoke(app, ["sets", "imagenet"]).exit_code == 1
