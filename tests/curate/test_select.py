from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
import torch
from curate_samples import compound, png, texture

from pathasst.core.errors import BadDataset, BadInput, BadSettings, MissingWeights
from pathasst.curate.augment import Augment
from pathasst.curate.select import CLASSES, Selector, body_of, build_released, read_threshold
from pathasst.curate.select_train import SelectTraining, choose_threshold, evaluate, read_samples, train
from pathasst.imaging.pictures import load
from pathasst.nn.classifier import Classifier, ClassifierConfig
from pathasst.nn.classifier.model import build, to_tensor

SMALL = {"dims": [8, 8, 16, 16], "depths": [1, 1, 1, 1]}
TINY = ClassifierConfig(classes=CLASSES, backbone="convnext_tiny", size=32, options=SMALL)


def test_our_layout_loads_and_scores_are_probabilities(tmp_path):
    Classifier(build(TINY), TINY).save(tmp_path)
    (tmp_path / "threshold.json").write_text('{"threshold": 0.7}')
    selector = Selector.load(tmp_path)
    scores = selector.score([texture(1), texture(2, 64, 300)])
    assert scores.shape == (2,)
    assert ((scores > 0) & (scores < 1)).all()
    assert selector.threshold == 0.7
    assert selector.score([]).shape == (0,)


def test_the_released_checkpoint_loads_from_a_file_and_class_1_is_pathology(tmp_path):
    torch.manual_seed(0)
    released = build_released()
    torch.save({"model": released.state_dict(), "epoch": 3}, tmp_path / "model.pt")
    selector = Selector.load(tmp_path / "model.pt")
    picture = texture(3, 224, 224)
    with torch.inference_mode():
        wanted = released.eval()(to_tensor([picture], "convnext_tiny")).softmax(1)[0, 1]
    assert selector.score([picture])[0] == pytest.approx(float(wanted), abs=1e-5)
    assert Selector.load(tmp_path).classifier.config.size == 224


def test_a_checkpoint_that_is_no_plain_weights_is_refused(tmp_path):
    torch.save({"model": build_released}, tmp_path / "code.pt")  # a function: would need unpickling
    with pytest.raises(BadInput, match="plain weights"):
        Selector.load(tmp_path / "code.pt")
    torch.save({"model": {"weight": torch.zeros(1)}}, tmp_path / "other.pt")
    with pytest.raises(BadInput, match="not the released"):
        Selector.load(tmp_path / "other.pt")
    with pytest.raises((MissingWeights, BadSettings)):
        Selector.load("no-such-model")


def test_a_classifier_of_something_else_is_refused(tmp_path):
    config = ClassifierConfig(classes=("cat", "dog"), backbone="convnext_tiny", size=32, options=SMALL)
    Classifier(build(config), config).save(tmp_path)
    with pytest.raises(BadInput, match="cat, dog"):
        Selector.load(tmp_path)


@pytest.mark.parametrize("text", ["[]", '{"threshold": "x"}', '{"threshold": 1.5}', "no json"])
def test_a_wrong_threshold_file_says_so(tmp_path, text):
    (tmp_path / "threshold.json").write_text(text)
    with pytest.raises(BadInput, match="threshold"):
        read_threshold(tmp_path)


@pytest.fixture
def labelled(tmp_path):
    """Pink dotted pictures against grey stripes, in groups of two."""
    for n in range(24):
        for kind in ("pathology", "other"):
            stripes = np.full((48, 48, 3), 230, np.uint8)
            stripes[:: 3 + n % 3] = 40
            picture = texture(n // 2, 48, 48) if kind == "pathology" else stripes
            path = tmp_path / kind / f"{n}.png"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(png(picture))
    rows = [f"{k}/{n}.png,{k},{k}{n // 2}" for n in range(24) for k in ("pathology", "other")]
    (tmp_path / "labels.csv").write_text("image,label,group\n" + "\n".join(rows))
    return tmp_path


def test_training_learns_a_simple_difference_and_writes_what_loads(labelled, tmp_path):
    settings = SelectTraining(
        backbone="convnext_tiny", options=SMALL | {"ls_init_value": 1.0}, size=32, start="", steps=40, minutes=0, batch=16,
        lr=3e-3, backbone_rate=1.0, ema=0.8, evaluate_every=20, val=0.3, test=0.3,
    )  # fmt: skip
    samples = read_samples(labelled / "labels.csv", settings)
    scores = train(samples, tmp_path / "out", settings)
    assert scores["f1"] > 0.8
    assert scores["f1_interval"][0] <= scores["f1"] <= scores["f1_interval"][1]
    selector = Selector.load(tmp_path / "out")
    assert selector.threshold == read_threshold(tmp_path / "out")
    assert selector.score([texture(99, 48, 48)])[0] >= selector.threshold
    assert evaluate(selector, [s for s in samples if s.split == "test"])["f1"] == scores["f1"]


def test_a_last_layer_fitted_on_pretrained_features_tells_them_apart(labelled, tmp_path):
    from pathasst.core import weights

    if not weights.present("efficientnet-lite0"):
        pytest.skip("efficientnet-lite0 is not on this machine: pathasst weights pull efficientnet-lite0")
    settings = SelectTraining(size=64, val=0.3, test=0.3)
    scores = train(read_samples(labelled / "labels.csv", settings), tmp_path / "out", settings, quick=True)
    assert scores["f1"] > 0.9
    assert Selector.load(tmp_path / "out").classifier.config.backbone == "tf_efficientnet_lite0"


class _Given:
    """Scores that are told."""

    threshold = 0.5

    def __init__(self, scores):
        self.scores = np.array(scores, np.float32)

    def score(self, pictures):
        return self.scores


def test_the_threshold_lies_where_f1_is_best_and_scores_count_sources(labelled):
    items = [i for i in read_samples(labelled / "labels.csv") if i.group in ("pathology0", "other0")]
    found = [0.35 if i.label == "pathology" else 0.1 for i in items]
    assert choose_threshold(_Given(found), items) == pytest.approx(0.225, abs=0.02)
    scores = evaluate(_Given([0.9 if i.label == "pathology" else 0.8 for i in items]), items)
    assert scores["precision"] == 0.5 and scores["recall"] == 1.0
    assert scores["per_source"] == {"other/": "0/2", "pathology/": "2/2"}


def test_groups_never_cross_the_split_and_folders_work_as_tables(labelled):
    settings = SelectTraining(val=0.3, test=0.3)
    sides: dict[str, set[str]] = {}
    for s in read_samples(labelled / "labels.csv", settings):
        sides.setdefault(s.group, set()).add(s.split)
    assert all(len(x) == 1 for x in sides.values())
    assert {s.label for s in read_samples(labelled, settings)} == set(CLASSES)


def test_unknown_labels_and_a_missing_class_say_so(tmp_path):
    for name in ("x.png", "y.png"):
        (tmp_path / name).write_bytes(b"a picture that nobody reads")
    (tmp_path / "a.csv").write_text("image,label\nx.png,maybe\ny.png,other\n")
    with pytest.raises(BadSettings, match="maybe"):
        read_samples(tmp_path / "a.csv")
    (tmp_path / "a.csv").write_text("image,label\nx.png,other\n")
    with pytest.raises(BadDataset, match="two classes"):
        read_samples(tmp_path / "a.csv")


def test_augmentation_follows_from_its_generator_and_montages_keep_to_the_class():
    red, blue = np.zeros((60, 60, 3), np.uint8), np.zeros((60, 60, 3), np.uint8)
    red[..., 0], blue[..., 2] = 255, 255
    augment = Augment([red, blue, red, blue], [("pathology", "a"), ("other", "b")] * 2)
    for seed in range(40):
        first, again = (augment(np.random.default_rng(seed), 0) for _ in range(2))
        assert first.dtype == np.uint8 and first.ndim == 3
        assert (first == again).all()
        assert first[..., 0].mean() >= first[..., 2].mean()


@pytest.mark.parametrize("recipe", ["embedded", "paper"])
def test_recipes_load(recipe):
    settings = SelectTraining.load(recipe)
    assert settings.size in (160, 224)
    assert json.dumps(settings.options) is not None


def test_the_embedded_model_keeps_a_micrograph_and_leaves_a_chart():
    from skimage import data

    selector = Selector.load()
    chart = np.full((300, 400, 3), 255, np.uint8)
    chart[40:260, 50:53] = 0
    chart[257:260, 50:380] = 0
    for n, x in enumerate(range(80, 360, 60)):
        chart[257 - 40 * n - 20 : 257, x : x + 30] = (70, 110, 180)
    kept = selector.score([data.immunohistochemistry(), chart]) >= selector.threshold
    assert kept.tolist() == [True, False]


def in_a_textbook(picture: np.ndarray) -> np.ndarray:
    """The picture in a wide white frame, with labels and leader lines."""
    height, width = picture.shape[:2]
    side = width // 3
    page = np.full((height + 24, width + 2 * side, 3), 255, np.uint8)
    page[12 : 12 + height, side : side + width] = picture
    for n in range(4):
        y = 30 + n * (height - 40) // 4
        cv2.putText(page, "Erythrocyte", (4, y), cv2.FONT_HERSHEY_SIMPLEX, side / 220, (0, 0, 0), 1)
        cv2.line(page, (side - 10, y), (side + width // 2, y + 10), (0, 0, 0), 2)
    return page


def test_the_body_of_a_textbook_picture_is_found_and_of_others_none():
    page = in_a_textbook(texture(1, 300, 400))
    body = body_of(page)
    assert body is not None and body.shape[:2] == pytest.approx((300, 400), abs=16)
    assert body_of(texture(1, 300, 400)) is None
    assert body_of(np.full((200, 300, 3), 255, np.uint8)) is None
    assert body_of(compound([texture(n) for n in range(4)], 2, gutter=60)) is None  # no one part


@pytest.mark.real
def test_blood_smears_in_a_textbooks_frame_are_kept(real_data):
    pictures = [in_a_textbook(load(p)) for p in sorted((real_data / "bccd").rglob("*.jp*g"))[:8]]
    selector = Selector.load()
    assert (selector.score(pictures) >= selector.threshold).all()
    selector.bodies = False
    assert (selector.score(pictures) < 0.9).any()  # the frame is what hides them
