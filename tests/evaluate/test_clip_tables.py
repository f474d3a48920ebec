"""Zero-shot (Table 2) and retrieval (Figure 4) as tables: public layouts, what is missing, what is broken, the paper's rows."""

import numpy as np
import pytest
from PIL import Image

from pathasst.clip.model import PathCLIPModel
from pathasst.core.errors import BadDataset, BadSettings
from pathasst.core.records import Pair, Source
from pathasst.dataset import run_stage
from pathasst.dataset.stage import Unit
from pathasst.evaluate import retrieval, zeroshot
from pathasst.evaluate.suite import EvalSettings, run

CLIP = "pathclip-lite"


@pytest.fixture(scope="module")
def clip():
    return PathCLIPModel.load(CLIP)


def noise(seed, shape=(48, 48, 3)):
    return np.random.default_rng(seed).integers(0, 255, shape, np.uint8)


@pytest.fixture
def sets(tmp_path):
    """LC25000 colon with a broken picture, WSSS4LUAD in a wrong layout; the rest is not there."""
    for n in range(3):
        for label in ("colon_aca", "colon_n"):
            folder = tmp_path / "LC25000/colon_image_sets" / label
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(noise(n + 10 * (label == "colon_n"))).save(folder / f"{label}{n}.jpeg")
    (tmp_path / "LC25000/colon_image_sets/colon_n/broken.jpeg").write_bytes(b"half a download")
    (tmp_path / "WSSS4LUAD/1.training").mkdir(parents=True)
    return tmp_path


def test_zero_shot_measures_what_is_there_and_explains_the_rest(clip, sets):
    table = zeroshot.evaluate(clip, CLIP, sets)
    assert table.rows[4] == ["paper: PathCLIP", "LC25000 colon", None, None, None, None, 0.943, None]  # beside ours
    ours = [row for row in table.rows if row[0] == CLIP]
    assert [row[1:4] for row in ours] == [["LC25000 colon", "single", 6], ["LC25000 colon", "ensemble", 6]]
    notes = "\n".join(table.notes)
    assert "LC25000 colon: 1 pictures could not be read" in notes
    assert "NCT-CRC-HE-100K: not in" in notes and "zenodo.org" in notes
    assert "does not look like WSSS4LUAD. Expected: WSSS4LUAD/1.training/<name>[1, 0, 0].png" in notes
    assert table.pictures["LC25000 colon: confusion"].startswith(b"\x89PNG")
    scores = {i["part"]: [j["score"] for j in table.items if j["part"] == i["part"]] for i in table.items}
    assert {part: np.mean(s) for part, s in scores.items()} == {
        f"LC25000 colon, {row[2]}": pytest.approx(row[7].value) for row in ours
    }


def test_zero_shot_of_one_folder_measures_the_tasks_it_has_pictures_of(clip, tmp_path):
    for name in ("ADI/1.png", "ADI/broken.png", "TUM/2.png"):
        (tmp_path / "crc" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise(1, (70, 70, 3))).save(tmp_path / "crc" / name)
    (tmp_path / "crc" / "ADI" / "broken.png").write_bytes(b"half a download")
    table = zeroshot.evaluate(clip, CLIP, None, folder=tmp_path / "crc")
    notes = "\n".join(table.notes)
    assert {row[1] for row in table.rows if row[0] == CLIP} == {"CRC100K"}
    assert "CRC100K: 1 pictures could not be read" in notes and "no picture of background, debris" in notes
    with pytest.raises(BadSettings, match="no task is called nothing"):
        zeroshot.evaluate(clip, CLIP, None, folder=tmp_path / "crc", only=["nothing"])
    with pytest.raises(BadDataset):
        zeroshot.evaluate(clip, CLIP, None, folder=tmp_path / "crc", only=["LC25000 lung"])


def test_zero_shot_without_any_set_says_so(clip, tmp_path):
    with pytest.raises(BadDataset, match=r"no zero-shot set was found(.|\n)*LC25000 lung: not in"):
        zeroshot.evaluate(clip, CLIP, tmp_path)
    with pytest.raises(BadDataset, match="no --data, its folder, was given"):
        zeroshot.evaluate(clip, CLIP, None)


def test_a_rerun_of_zero_shot_encodes_nothing(sets, tmp_path, monkeypatch):
    settings = EvalSettings(data=sets, out=tmp_path / "out", clip=CLIP)
    (first,), _ = run(["zero-shot"], settings)

    def never(self, *given):
        raise AssertionError("encoded again")

    monkeypatch.setattr(PathCLIPModel, "encode_pixels", never)
    (again,), _ = run(["zero-shot"], settings)
    assert (again.rows, again.items) == (first.rows, first.items)


def pairs_of(folder, count, split):
    import io

    def one(n):
        out = io.BytesIO()
        Image.fromarray(noise(100 + n)).save(out, "PNG")
        caption = "word " * 100 if n == 0 else f"Specimen number {n} of the liver."
        return Pair(
            pair_id=f"p{n}", md5=str(n), source=Source(article_id=f"a{n}"), image=out.getvalue(), caption=caption, split=split
        )

    made = [one(n) for n in range(count)]
    run_stage(folder, stage="pairs", record=Pair, units=[Unit("all")], work=lambda unit: made, progress=False)


def test_retrieval_counts_the_split_of_pubmed_and_all_of_books(clip, tmp_path):
    pairs_of(tmp_path / "pairs", 4, "test")
    pairs_of(tmp_path / "book-pairs", 6, "train")
    table = retrieval.evaluate(clip, CLIP, tmp_path)
    found = {(row[1], row[2] or row[0]): row[3:5] for row in table.rows}
    assert found["PubMed", "image to text"] == [3, 3]  # one caption is longer than 77 tokens
    assert found["books", "text to image"] == [5, 5]
    assert found["PubMed", "paper: PathCLIP"] == [None, None]
    rows = [row for row in table.rows if row[:2] == [CLIP, "books"]]
    assert len(rows) == 2
    assert all(row[5].value <= row[6].value <= row[7].value == row[8].value == 1.0 for row in rows)
    assert "PubMed: 1 captions over 77 tokens left out." in table.notes
    assert table.pictures["Recall over k"].startswith(b"\x89PNG")


def test_retrieval_names_what_it_lacks(clip, tmp_path):
    with pytest.raises(BadDataset, match=r"PubMed pairs .*: not in(.|\n)*Books pairs(.|\n)*Or give --pairs"):
        retrieval.evaluate(clip, CLIP, tmp_path)
    (tmp_path / "book-pairs").mkdir()
    pairs_of(tmp_path / "mine", 3, "test")
    table = retrieval.evaluate(clip, CLIP, tmp_path, [tmp_path / "mine"])
    assert {row[1] for row in table.rows if row[0] == CLIP} == {"given pairs"}
    assert any("does not look like Books pairs" in note for note in table.notes)
