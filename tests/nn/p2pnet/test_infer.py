"""Suppression, checkpoints, and detection that does not depend on tiles or padding."""

import json

import numpy as np
import pytest
import torch

from pathasst.core.errors import BadInput
from pathasst.core.progress import listening
from pathasst.nn.p2pnet.infer import CellDetector, fuse, load, save, suppress
from pathasst.nn.p2pnet.model import P2PNet
from pathasst.nn.p2pnet.settings import P2PNetSettings

SMALL = P2PNetSettings(
    classes=("positive", "negative", "other"), ignored=("other",), channels=(8, 16, 24, 32), neck=16, hidden=16, min_score=0.3
)


def test_only_the_best_of_close_points_stays():
    points = np.array([[0, 0], [5, 0], [11, 0], [30, 0], [42, 0]], np.float32)
    scores = np.array([0.5, 0.9, 0.8, 0.7, 0.6], np.float32)
    # 5 beats 0 and 11; 30 and 42 are exactly 12 px apart, which is not closer than 12.
    assert suppress(points, scores, 12).tolist() == [1, 3, 4]
    assert len(suppress(np.empty((0, 2)), np.empty(0))) == 0


def test_a_suppressed_point_suppresses_nobody():
    points = np.array([[0, 0], [10, 0], [20, 0]], np.float32)
    assert suppress(points, np.array([0.9, 0.8, 0.7]), 12).tolist() == [0, 2]


def test_a_checkpoint_gives_the_same_network_back(tmp_path):
    torch.manual_seed(0)
    net = P2PNet(SMALL).eval()
    file = save(net, tmp_path)
    again = load(tmp_path)
    assert again.settings == SMALL and file.stat().st_size < 1e6
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert (net(x).logits - again(x).logits).abs().max() < 0.02  # fp16 on disk


@pytest.mark.parametrize("content", [b"", b"junk" * 100, None])
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path, content):
    from safetensors.torch import save_file

    file = tmp_path / "model.safetensors"
    save_file({"a": torch.zeros(1)}, file) if content is None else file.write_bytes(content)
    with pytest.raises(BadInput):
        load(tmp_path)


def test_a_folded_detector_sees_the_same(tmp_path):
    torch.manual_seed(0)
    net = P2PNet(SMALL.replace(backbone="tf_efficientnet_lite0", channels=(), min_score=(0.1, 0.2, 0.3))).eval()
    save(net, tmp_path)
    picture = np.random.default_rng(0).integers(0, 255, (70, 90, 3), dtype=np.uint8)
    plain, folded = CellDetector(load(tmp_path)), CellDetector.load(tmp_path)
    plain.bf16 = folded.bf16 = False
    a, b = plain(picture, min_score=0.05), folded(picture, min_score=0.05)
    assert len(a) == len(b) > 0
    np.testing.assert_allclose(a.points, b.points, atol=0.01)
    np.testing.assert_allclose(a.scores, b.scores, atol=1e-3)


class Marker(torch.nn.Module):
    """A stand-in for a trained network with a known answer: every pure-red pixel block is a cell of class 0, at its centre."""

    settings = SMALL

    def forward(self, images: torch.Tensor):
        from pathasst.nn.p2pnet.model import Proposals, grid

        h, w = images.shape[-2:]
        red = (images[:, 0] - images[:, 1]).reshape(1, h // 8, 8, w // 8, 8).mean((2, 4)).flatten(1)
        logits = torch.stack([20 * red - 5, torch.full_like(red, -9), torch.full_like(red, -9), torch.zeros_like(red)], -1)
        return Proposals(grid(h, w, 8).expand(1, -1, -1), logits)


def picture(cells: list[tuple[int, int]], height: int, width: int) -> np.ndarray:
    image = np.full((height, width, 3), 255, np.uint8)
    for x, y in cells:
        image[y - 4 : y + 4, x - 4 : x + 4] = (255, 0, 0)
    return image


def test_tiles_and_padding_change_nothing():
    cells = [(x, y) for x in range(20, 500, 48) for y in range(20, 300, 56)]
    image = picture(cells, 307, 509)
    whole = CellDetector(Marker())(image)
    tiled = CellDetector(Marker(), tile=128, overlap=64)(image)
    for found in (whole, tiled):
        assert len(found) == len(cells)
        assert (np.abs(found.points[:, None] - np.array(cells)).max(-1).min(1) <= 4).all()
        assert (found.classes == 0).all()


def test_points_come_back_in_px_of_the_picture_as_given():
    cells = [(100, 40), (180, 120)]
    big = picture(cells, 200, 260).repeat(2, 0).repeat(2, 1)
    found = CellDetector(Marker())(big, scale=0.5)
    assert len(found) == 2
    # The stand-in answers with centres of 8 px blocks of the halved picture: at most 8 px off in the picture as given.
    assert (np.abs(found.points[:, None] - 2 * np.array(cells)).max(-1).min(0) <= 8).all()


def test_a_class_can_have_a_least_score_of_its_own():
    seen = picture([(20, 20), (60, 60)], 96, 96)
    marker = Marker()
    found = CellDetector(marker)(seen)
    marker.settings = SMALL.replace(min_score=(float(found.scores.max()) + 1e-4, 0.3, 0.3))
    assert len(found) == 2 and len(CellDetector(marker)(seen)) == 0 and len(CellDetector(marker)(seen, min_score=0.3)) == 2


def test_settings_in_the_header_are_plain_json(tmp_path):
    from safetensors import safe_open

    save(P2PNet(SMALL), tmp_path)
    with safe_open(tmp_path / "model.safetensors", "pt") as content:
        assert json.loads(content.metadata()["settings"])["classes"] == ["positive", "negative", "other"]


def test_fused_views_average_what_they_say_and_one_that_saw_nothing_counts_as_zero():
    points = np.array([[10, 10], [12, 10], [50, 50], [90, 10], [92, 10], [91, 12]], np.float32)
    probabilities = np.array([[0.8, 0.1], [0.6, 0.3], [0.9, 0.0], [0.2, 0.6], [0.1, 0.7], [0.3, 0.5]], np.float32)
    places, means = fuse(points, probabilities, np.array([0, 1, 0, 0, 0, 1]), views=2)
    assert np.allclose(means[np.argsort(places[:, 0])], [[0.7, 0.2], [0.45, 0.0], [0.2, 0.6]], atol=1e-6)
    assert 10 < places[np.argmin(places[:, 0]), 0] < 11  # nearer to the surer view's point
    assert [len(part) for part in fuse(np.empty((0, 2)), np.empty((0, 2)), np.empty(0, int), 4)] == [0, 0]


def test_mirrored_views_find_the_same_cells_in_the_same_places():
    cells = [(20, 20), (76, 36), (140, 116)]
    image = picture(cells, 131, 163)  # padded: mirroring must not shift what lies before the padding
    marker = Marker()
    plain = CellDetector(marker)(image)
    marker.settings = SMALL.replace(views=4)
    mirrored = CellDetector(marker)(image)
    assert len(mirrored) == len(cells)
    order = [np.lexsort(found.points.T) for found in (plain, mirrored)]
    assert np.allclose(plain.points[order[0]], mirrored.points[order[1]], atol=1e-3)
    assert np.allclose(plain.scores[order[0]], mirrored.scores[order[1]], atol=1e-3)


def test_a_long_picture_tells_how_many_tiles_are_done():
    torch.manual_seed(0)
    detector = CellDetector(P2PNet(SMALL).eval(), tile=128, overlap=32)
    steps: list[tuple[int, int]] = []
    with listening(lambda done, total: steps.append((done, total))):
        detector(np.zeros((128, 400, 3), np.uint8))
    assert len(steps) > 2 and [done for done, _ in steps] == list(range(1, steps[0][1] + 1))
