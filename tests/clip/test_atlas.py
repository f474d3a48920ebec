"""An atlas of cases: read, built, kept as 8-bit vectors, and asked for the nearest; the tool on the shipped one."""

import csv
import io

import numpy as np
import pytest
from PIL import Image

from pathasst.clip.atlas import SHIPPED, Atlas, AtlasCase, build, read_sources
from pathasst.core import weights
from pathasst.core.errors import BadDataset, BadInput
from pathasst.core.records import ToolCall
from pathasst.nn.space import Space
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


def test_a_case_with_several_slides_comes_once(table):
    made, _ = build(read_sources(table), Colours())
    made.cases[made.of[0]], made.cases[made.of[2]] = AtlasCase(case="one", stain="H&E"), AtlasCase(case="one", stain="PAS")
    assert [s.case.case for s in made.nearest(made.vectors[0], 5)] == ["one", "blue"]


def test_several_fields_are_judged_together(table):
    made, _ = build(read_sources(table), Colours())
    fields = np.concatenate([made.vectors[:1], np.repeat(made.vectors[4:5], 3, axis=0)])  # one red field, three blue ones
    assert made.nearest(fields, 1)[0].case.case == "blue"


def test_the_vote_counts_only_what_is_known(table):
    made, _ = build(read_sources(table), Colours())
    votes = similar_cases.vote(made.nearest(made.vectors[0], 3), "organ")
    assert votes == {"skin": 2}
    assert similar_cases.vote(made.nearest(made.vectors[0], 3), "category") == {}


def test_a_majority_is_three_of_five():
    votes = {"organ": {"colon": 3, "liver": 1}, "diagnosis": {"lipoma": 2, "naevus": 1}, "category": {}}
    assert similar_cases.majority(votes) == {"organ": ("colon", 3)}


def test_a_space_has_whitened_coordinates_and_survives_its_file(tmp_path):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(520, 4128)).astype(np.float32) * np.linspace(0.5, 4, 4128)
    features[:, :50] += 9 * rng.normal(size=(520, 1))  # one direction that matters
    space = Space.fit(features, 8)
    coordinates = ((features - space.mean) / space.deviation) @ space.components.T
    assert np.allclose(np.cov(coordinates.T), np.eye(8), atol=0.02)
    again = Space.of(space.tensors())
    assert (again.project(features[:9]) * space.project(features[:9])).sum(1).min() > 0.999
    assert again.fingerprint() == space.fingerprint()
    with pytest.raises(BadDataset, match="500"):
        Space.fit(features[:20])


@pytest.mark.skipif(not (weights.present(SHIPPED) and weights.present("look-embedded")), reason="weights are not here")
def test_the_shipped_atlas_answers_with_link_licence_and_thumbnail_and_declines_a_photograph(monkeypatch):
    monkeypatch.setenv("PATHASST_GUARD", "on")
    import skimage.data

    tool = similar_cases.SimilarCases()
    own = similar_cases.load(Atlas.load(SHIPPED).thumbnails[0])
    result = tool(ToolCall(name="similar_cases", arguments={"k": 2}), own)
    assert not result.error
    first = result.numbers["cases"][0]
    assert first["case"] == Atlas.load(SHIPPED).cases[0].case
    assert first["link"].startswith("https://images.patolojiatlasi.com/")
    assert "CC BY 4.0" in first["licence"] and first["link"] in result.text and first["licence"] in result.text
    assert [p.image[:4] for p in result.pictures] == [b"\x89PNG"] * 2
    assert "unlike any stained slide" in tool(ToolCall(name="similar_cases"), skimage.data.coffee()).error


def test_a_folder_of_folders_names_diagnoses_and_a_broken_picture_costs_itself(tmp_path):
    (tmp_path / "naevus").mkdir()
    Image.new("RGB", (30, 30), (200, 10, 10)).save(tmp_path / "naevus" / "a.png")
    (tmp_path / "naevus" / "b.png").write_text("no picture")
    made, broken = build(read_sources(tmp_path), Colours())
    assert (made.cases, broken) == ([AtlasCase(case="a", diagnosis="naevus")], 1)


def test_what_is_no_atlas_is_an_error(tmp_path):
    with pytest.raises(BadInput, match="atlas build"):
        Atlas.load(tmp_path)
    with pytest.raises(BadDataset):
        read_sources(tmp_path)
