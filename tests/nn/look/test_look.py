"""The look: heads and distance fitted to features of which the answer is known, kept on disk, and the guard that asks it."""

import numpy as np
import pytest

from pathasst.core.errors import BadDataset, BadInput
from pathasst.nn.look import LookAnswer, Looker, LookResult
from pathasst.nn.look.fit import LookItem, LookSettings, LookSource, expected_calibration_error, fit, read_items
from pathasst.nn.multiscale import pooled
from pathasst.tools import guard

SETTINGS = LookSettings(
    questions={"colour": ("red", "blue"), "never": ("a", "b")},
    data=(LookSource(name="drawn", files="*.png"),),
    components=8,
    directions=4,
    alike=20,
)


@pytest.fixture(scope="module")
def fitted() -> tuple[Looker, dict, np.ndarray]:
    rng = np.random.default_rng(0)
    truth = np.arange(120) % 2
    features = rng.normal(size=(120, 6192))
    features[:, :2000] += 2 * truth[:, None]
    items = [
        LookItem(None, "drawn", f"g{n // 4}", {"colour": ("red", "blue")[t], "never": ("a", "b")[int(rng.integers(2))]})  # type: ignore[arg-type]
        for n, t in enumerate(truth)
    ]
    looker, scores = fit(SETTINGS, items, features.astype(np.float16))
    return looker, scores, features


def test_what_can_be_told_is_stated_and_what_cannot_is_not(fitted):
    looker, scores, features = fitted
    seen = looker.read(features[:40])
    assert scores["colour"]["accuracy"] > 0.95
    assert sum(s.answers["colour"].choice == ("red", "blue")[n % 2] for n, s in enumerate(seen)) >= 36
    assert all(s.answers["never"].choice is None for s in seen)
    assert sum(seen[0].answers["colour"].probabilities.values()) == pytest.approx(1, abs=0.01)


def test_features_of_another_kind_are_unlike(fitted):
    looker, scores, _ = fitted
    assert scores["refused"] == pytest.approx(0.05, abs=0.03)
    strange = np.random.default_rng(1).normal(size=(20, 6192)) * 3
    assert all(s.unlike for s in looker.read(strange))


def test_saved_and_loaded_it_says_the_same(fitted, tmp_path):
    looker, _, features = fitted
    looker.save(tmp_path)
    again = Looker.load(tmp_path).read(features[:8])
    for a, b in zip(looker.read(features[:8]), again, strict=True):
        assert a.distance == pytest.approx(b.distance, rel=0.02)
        assert a.answers["colour"].probability == pytest.approx(b.answers["colour"].probability, abs=0.02)


def test_a_folder_without_a_look_is_an_error(tmp_path):
    with pytest.raises(BadInput, match="no look"):
        Looker.load(tmp_path)
    with pytest.raises(BadDataset, match="drawn"):
        read_items(SETTINGS, tmp_path)


def test_calibration_error_is_the_gap_to_what_was_right():
    assert expected_calibration_error(np.full(10, 0.75), np.array([True] * 5 + [False] * 5)) == pytest.approx(0.25)


def test_features_depend_on_the_middle_of_the_picture_alone():
    rng = np.random.default_rng(0)
    square = rng.integers(0, 255, (224, 224, 3), dtype=np.uint8)
    wide = np.concatenate([np.zeros((224, 60, 3), np.uint8), square, np.zeros((224, 60, 3), np.uint8)], axis=1)
    a, b = pooled([square, wide])
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)
    assert pooled([]).shape == (0, 6192)


def seen(shares: dict[str, float], distance: float = 0.5) -> LookResult:
    return LookResult({"preparation": LookAnswer(next(iter(shares)), max(shares.values()), shares)}, distance, 1.3)


@pytest.mark.parametrize(
    ("what", "outcome"),
    [
        (seen({"blood smear": 0.98, "tissue section": 0.02}), []),
        (seen({"tissue section": 0.8, "blood smear": 0.2}), ["hardly looks like"]),
        (seen({"blood smear": 0.98, "tissue section": 0.02}, 1.1), ["unlike those"]),
        (seen({"tissue section": 0.99, "blood smear": 0.01}), "looks like tissue section"),
        (seen({"blood smear": 0.98, "tissue section": 0.02}, 2.0), "unlike any stained slide"),
    ],
)
def test_the_guard_passes_warns_or_declines(what, outcome, monkeypatch):
    monkeypatch.setattr(guard, "on", lambda: True)
    monkeypatch.setattr(guard, "look", lambda image: what)
    if isinstance(outcome, str):
        with pytest.raises(BadInput, match=outcome):
            guard.require(np.zeros((64, 64, 3), np.uint8), "preparation", ["blood smear"], "The count")
        return
    warnings = guard.require(np.zeros((64, 64, 3), np.uint8), "preparation", ["blood smear"], "The count")
    assert len(warnings) == len(outcome)
    assert all(part in w for part, w in zip(outcome, warnings, strict=True))


def test_real_smears_pass_and_real_tissue_does_not(real_data, monkeypatch):
    from pathasst.core.records import ToolCall
    from pathasst.imaging.pictures import load
    from pathasst.tools.registry import tool_class

    monkeypatch.setenv("PATHASST_GUARD", "on")
    smear = load(next(iter(sorted((real_data / "bccd/images").glob("*")))))
    tissue = load(next(iter(sorted((real_data / "lc25000/colon").rglob("*.jpeg")))))
    count = tool_class("blood_cells")()
    assert not count(ToolCall(name="blood_cells", arguments={}), smear).error
    assert "tissue section" in count(ToolCall(name="blood_cells", arguments={}), tissue).error
    result = tool_class("look")()(ToolCall(name="look", arguments={}), tissue)
    assert result.numbers["stain"]["answer"] == "H&E"
    assert "Stain: H&E" in result.text
