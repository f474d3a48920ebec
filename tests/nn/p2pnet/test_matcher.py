"""Matching and loss on cases small enough to do by hand."""

import pytest
import torch

from pathasst.nn.p2pnet.loss import PointLoss
from pathasst.nn.p2pnet.matcher import match
from pathasst.nn.p2pnet.model import Proposals


def test_distance_decides_between_equal_probabilities():
    points = torch.tensor([[0.0, 0.0], [10.0, 0.0], [20.0, 0.0]])
    cells = torch.tensor([[19.0, 0.0], [1.0, 0.0]])
    rows, columns = match(points, torch.zeros(3, 2), cells, torch.tensor([0, 0]))
    assert dict(zip(rows.tolist(), columns.tolist(), strict=True)) == {0: 1, 2: 0}


def test_a_sure_proposal_wins_over_a_slightly_nearer_one():
    points = torch.tensor([[0.0, 0.0], [4.0, 0.0]])
    logits = torch.tensor([[-5.0, 5.0], [5.0, -5.0]])  # class 0, background
    rows, _ = match(points, logits, torch.tensor([[1.0, 0.0]]), torch.tensor([0]), distance=0.1)
    assert rows.tolist() == [1]  # 0.1·3 − 1 < 0.1·1 − 0
    rows, _ = match(points, logits, torch.tensor([[1.0, 0.0]]), torch.tensor([0]), distance=1.0)
    assert rows.tolist() == [0]


def test_each_proposal_is_used_once_and_extra_cells_stay_unmatched():
    points = torch.zeros(2, 2)
    rows, columns = match(points, torch.zeros(2, 2), torch.zeros(5, 2), torch.zeros(5, dtype=torch.int64))
    assert sorted(rows.tolist()) == [0, 1] and len(set(columns.tolist())) == 2


def test_no_cells_no_pairs():
    rows, columns = match(torch.zeros(2, 2), torch.zeros(2, 2), torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64))
    assert len(rows) == len(columns) == 0


def test_the_loss_of_a_perfect_answer_is_zero_and_of_an_offset_the_square():
    logits = torch.tensor([[[20.0, -20.0], [-20.0, 20.0]]])
    cells, labels = [torch.tensor([[8.0, 8.0]])], [torch.tensor([0])]
    exact = PointLoss()(Proposals(torch.tensor([[[8.0, 8.0], [50.0, 50.0]]]), logits), cells, labels)
    assert float(exact.total) < 1e-6
    off = PointLoss(point_weight=0.01)(Proposals(torch.tensor([[[5.0, 12.0], [50.0, 50.0]]]), logits), cells, labels)
    assert float(off.point) == pytest.approx(25.0) and float(off.total) == pytest.approx(0.25, abs=1e-5)


def test_an_empty_picture_teaches_background_and_still_has_a_gradient():
    points = torch.zeros(1, 3, 2, requires_grad=True)
    logits = torch.zeros(1, 3, 2, requires_grad=True)
    out = PointLoss()(Proposals(points, logits), [torch.zeros(0, 2)], [torch.zeros(0, dtype=torch.int64)])
    out.total.backward()
    assert (logits.grad[..., 1] < 0).all() and points.grad is not None
