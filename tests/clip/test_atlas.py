"""An atlas of cases: read, built, kept as 8-bit vectors, and asked for the nearest."""

import csv
import io

import numpy as np
import pytest
from PIL import Image

from pathasst.clip.atlas import Atlas, Case, build, read_sources
from pathasst.core.errors import BadDataset, BadInput
from pathasst.tools import similar_cases


class Colours:
    """Encodes a picture as its mean colour: a space in which nearest can be told by eye."""

    def encode_image(self, images, batch=64):
        rows = [np.asarray(i, np.float32).reshape(-1, 3).mean(0) - 128 for i in images]
        return np.stack([r / np.linalg.norm(r) for r in rows]).astype(np.float32) if rows else np.zeros((0, 3), np.float32)

    def fingerprint(self):
        return "colours"


@pytest.fixture
def table(tmp_path):
    with (tmp_path / "cases.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "case", "diagnosis", "organ"])
        for name, colour in {"red": (220, 40, 40), "green": (40, 220, 40), "blue": (40, 40, 220)}.items():
            for n in range(2):
                Image.new("RGB", (40, 30), colour).save(tmp_path / f"{name}{n}.png")
                writer.writerow([f"{name}{n}.png", name, f"{name} disease", "skin" if name != "blue" else ""])
    return tmp_path / "cases.csv"


def test_the_nearest_case_comes_first_also_from_disk(table, tmp_path):
    made, broken = build(read_sources(table, link="https://atlas/{case}", licence="CC BY 4.0"), Colours())
    assert (len(made.cases), len(made.vectors), broken) == (3, 6, 0)
    made.save(tmp_path / "atlas")
    again = Atlas.load(tmp_path / "atlas")
    picture = np.full((20, 20, 3), (60, 180, 60), np.uint8)
    nearest = again.nearest(Colours().encode_image([picture])[0], 2)
    assert nearest[0].case.case == "green"
    assert (nearest[0].case.link, nearest[0].case.licence) == ("https://atlas/green", "CC BY 4.0")
    assert nearest[0].similarity > 0.95 > nearest[1].similarity
    with Image.open(io.BytesIO(nearest[0].thumbnail)) as small:
        assert small.getpixel((50, 50))[1] > 200
    assert again.nearest(Colours().encode_image([picture])[0], 3, leave_out="green")[0].case.case != "green"


def test_the_vote_counts_only_what_is_known(table):
    made, _ = build(read_sources(table), Colours())
    votes = similar_cases.vote(made.nearest(made.vectors[0], 3), "organ")
    assert votes == {"skin": 1.0}
    assert similar_cases.vote(made.nearest(made.vectors[0], 3), "category") == {}


def test_a_folder_of_folders_names_diagnoses_and_a_broken_picture_costs_itself(tmp_path):
    (tmp_path / "naevus").mkdir()
    Image.new("RGB", (30, 30), (200, 10, 10)).save(tmp_path / "naevus" / "a.png")
    (tmp_path / "naevus" / "b.png").write_text("no picture")
    made, broken = build(read_sources(tmp_path), Colours())
    assert (made.cases, broken) == ([Case(case="a", diagnosis="naevus")], 1)


def test_what_is_no_atlas_is_an_error(tmp_path):
    with pytest.raises(BadInput, match="atlas build"):
        Atlas.load(tmp_path)
    with pytest.raises(BadDataset):
        read_sources(tmp_path)
