from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pathasst.clip import search
from pathasst.clip import zeroshot as zs
from pathasst.clip.build import ClipConfig, build
from pathasst.clip.model import PathCLIPModel
from pathasst.clip.retrieval import by_chance, draw_curve, retrieve
from pathasst.clip.search import embed_folder, nearest
from pathasst.core.errors import BadDataset, BadSettings
from pathasst.core.recipes import recipes_dir

TASK = zs.ZeroShotTask(
    "textures", ["bands", "dots"], ["bands", "dots"], {"textures/bands": 0, "textures/dots": 1, "b": 0, "d": 1}
)


@pytest.fixture(scope="module")
def clip(tiny: dict) -> PathCLIPModel:
    torch.manual_seed(3)
    config = ClipConfig(tiny)
    return PathCLIPModel(build(config), config, "tiny")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for label, level in (("b", 40), ("d", 200)):
        (tmp_path / label).mkdir()
        for n in range(3):
            noise = np.random.default_rng(level + n).integers(0, level, (20, 20, 3), dtype=np.uint8)
            Image.fromarray(noise).save(tmp_path / label / f"{n}.png")
    (tmp_path / "d" / "broken.jpg").write_bytes(b"no picture")
    (tmp_path / "other").mkdir()
    return tmp_path


def test_pairs_are_classified_once_a_picture(clip: PathCLIPModel, pairs: Path) -> None:
    examples = zs.examples_of_pairs(zs.labelled(pairs, ["test"]), TASK)
    assert len(examples) == 8 and len({e.cluster for e in examples}) == 8
    outcome = zs.run(clip, TASK, *reversed(zs.embed(clip, examples)))
    assert outcome.probabilities.shape == (8, 2) and outcome.scores.confusion.sum() == 8
    assert Image.open(io.BytesIO(zs.draw_confusion(outcome))).width > 200


def test_perfect_features_give_perfect_scores(clip: PathCLIPModel, pairs: Path) -> None:
    examples = zs.examples_of_pairs(zs.labelled(pairs, ["test"]), TASK)
    prompts = clip.encode_classes(TASK.prompts)
    scores = zs.run(clip, TASK, examples, prompts[[e.label for e in examples]]).scores
    assert scores.macro_f1.value == scores.accuracy.low == 1


def test_public_folder_layouts(folder: Path) -> None:
    examples = zs.examples_of_folder(folder, TASK, {"0.png": "same", "1.png": "same"})
    assert [e.label for e in examples if "broken" not in e.id] == [0, 0, 0, 1, 1, 1]
    assert {e.cluster for e in examples if e.id.endswith(("0.png", "1.png"))} == {"same"}


def test_originals_beside_the_pictures_are_used(folder: Path) -> None:
    (folder / zs.ORIGINALS).write_text("image,original\nb/0.png,one\nd/1.png,one\n")
    clusters = {e.id: e.cluster for e in zs.examples_of_folder(folder, TASK)}
    assert clusters["b/0.png"] == clusters["d/1.png"] == "one" and clusters["b/2.png"] == "2.png"
    assert {e.cluster for e in zs.examples_of_folder(folder, TASK, {})} == {"0.png", "1.png", "2.png", "broken.jpg"}


@pytest.mark.parametrize(
    ("task", "made", "said"),
    [
        ("CRC100K", [], "there is no such folder. Expected: one folder of pictures a class, called ADI, BACK, DEB"),
        ("CRC100K", ["ADI/notes.txt"], "it holds no pictures"),
        ("LC25000 lung", ["train/0/a.png", "train/1/b.png"], "in folders called 0, 1. Expected: .* lung_aca, lung_scc, lung_n"),
        ("WSSS4LUAD", ["img/1.png"], r"in folders called img. Expected: three flags in each file name .* name-\[1, 0, 0\].png"),
        ("Pap smear cells", ["NILM/1.png"], "has no public layout of folders"),
    ],
)
def test_a_wrong_layout_is_explained(tmp_path: Path, task: str, made: list[str], said: str) -> None:
    for name in made:
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / name).touch()
    with pytest.raises(BadDataset, match=f"does not look like {task}: .*{said}"):
        zs.examples_of_folder(tmp_path / "set", zs.load_tasks()[task])


def test_broken_pictures_and_absent_classes(clip: PathCLIPModel, folder: Path) -> None:
    examples = zs.examples_of_folder(folder, TASK)
    features, read = zs.embed(clip, examples)
    assert len(examples) == 7 and len(read) == len(features) == 6 and not any("broken" in e.id for e in read)
    assert zs.absent(TASK, read) == [] and zs.absent(TASK, [e for e in read if e.label]) == ["bands"]


@pytest.mark.parametrize(("name", "label"), [("1-[1, 0, 0].png", 0), ("2-[0 1 1].png", 1), ("3-[1,1,0].png", 0)])
def test_wsss4luad_flags(tmp_path: Path, name: str, label: int) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / name)
    task = zs.load_tasks(recipes_dir() / "embedded" / "clip_zeroshot.yaml")["WSSS4LUAD"]
    assert [e.label for e in zs.examples_of_folder(tmp_path, task)] == [label]


def test_the_shipped_tasks_hold_the_authors_prompts() -> None:
    tasks = zs.load_tasks(recipes_dir() / "embedded" / "clip_zeroshot.yaml")
    assert tasks["CRC100K"].prompts[8] == "An H&E patch of colorectal adenocarcinoma epithelium"
    assert tasks["WSSS4LUAD"].prompts == ["An H&E image of tumor tissue.", "An H&E image of normal tissue."]
    assert "An image of lung squamous cell carcinomas" in tasks["LC25000 lung"].prompts
    assert all(len(t.ensemble) == len(t.classes) for t in tasks.values())


def test_faults_are_said(clip: PathCLIPModel, tmp_path: Path, pairs: Path) -> None:
    with pytest.raises(BadDataset, match="no pictures"):
        zs.run(clip, TASK, [], clip.encode_image([]))
    with pytest.raises(BadSettings, match="no prompt ensemble"):
        zs.run(clip, TASK, zs.examples_of_pairs(zs.labelled(pairs, ["test"]), TASK), clip.encode_image([]), ensemble=True)
    (tmp_path / "bad.yaml").write_text("task: {classes: 3}")
    with pytest.raises(BadSettings, match="no list of zero-shot tasks"):
        zs.load_tasks(tmp_path / "bad.yaml")


def test_retrieval_counts_each_caption_and_picture_once(clip: PathCLIPModel, pairs: Path) -> None:
    own, back = retrieve(clip, [pairs], ["train", "test"])
    assert (own.queries, own.items, back.queries) == (4, 4, 4)
    assert own.at[5].value == back.at[10].value == 1.0
    both = retrieve(clip, [pairs], ["test"], composed=True)
    assert (both[0].queries, both[0].items, both[1].queries) == (10, 6, 6)
    assert Image.open(io.BytesIO(draw_curve({"textures": both}))).width > 700
    with pytest.raises(BadDataset, match="77 tokens"):
        retrieve(clip, [pairs], ["val"])


def test_chance_of_retrieval_is_that_of_a_random_order() -> None:
    assert by_chance(40, [1, 1, 1], 10) == pytest.approx(0.25) and by_chance(6, [1], 10) == 1
    order = np.random.default_rng(0).permuted(np.tile(np.arange(12), (20000, 1)), axis=1)[:, :3]
    assert by_chance(12, [2], 3) == pytest.approx((order < 2).any(axis=1).mean(), abs=0.01)
    assert by_chance(12, [2, 4], 3) == pytest.approx((by_chance(12, [2], 3) + by_chance(12, [4], 3)) / 2)


def test_folder_search_finds_the_nearest_and_reads_only_what_is_new(
    clip: PathCLIPModel, folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path_factory.mktemp("cache")
    paths, vectors, unreadable = embed_folder(clip, folder, cache)
    assert len(paths) == 6 and vectors.shape == (6, 32) and unreadable == 1
    assert nearest(vectors, vectors[4], 3)[0] == (4, pytest.approx(1, abs=1e-5))
    seen: list[Path] = []
    embed = search.embed
    monkeypatch.setattr(search, "embed", lambda c, sources, report: (seen.extend(sources), embed(c, sources, report))[1])
    done: list[int] = []
    again = embed_folder(clip, folder, cache, done.append)
    assert again[0] == paths and (again[1] == vectors).all() and again[2] == 1 and seen == [] and sum(done) == 7
    Image.new("RGB", (30, 30), "red").save(folder / "b" / "new.png")
    more = embed_folder(clip, folder, cache)
    assert [p.name for p in seen] == ["new.png"] and len(more[0]) == 7 and more[2] == 1
    np.testing.assert_array_equal(more[1][:3], vectors[:3])
    assert nearest(vectors, vectors[0], 6)[0][0] == 0
    with pytest.raises(BadDataset, match="holds no pictures"):
        embed_folder(clip, folder / "other")


def test_a_killed_search_goes_on(
    clip: PathCLIPModel, folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch
) -> None:
    cache = tmp_path_factory.mktemp("cache")
    monkeypatch.setattr(search, "KEEP", 3)
    embed, seen = search.embed, []

    def dies(c: PathCLIPModel, sources: list[Path], report: object) -> object:
        if len(seen) == 3:
            raise KeyboardInterrupt
        seen.extend(sources)
        return embed(c, sources)

    monkeypatch.setattr(search, "embed", dies)
    with pytest.raises(KeyboardInterrupt):
        embed_folder(clip, folder, cache)
    monkeypatch.setattr(search, "embed", lambda c, sources, report: (seen.extend(sources), embed(c, sources))[1])
    _, vectors, _ = embed_folder(clip, folder, cache)
    assert len(seen) == len(set(seen)) == 7
    monkeypatch.undo()
    np.testing.assert_allclose(embed_folder(clip, folder)[1], vectors, atol=1e-6)
