"""The network's geometry: one pixel convention for grid, sampling and pictures."""

import numpy as np
import pytest
import torch

from pathasst.core import weights
from pathasst.core.errors import BadSettings
from pathasst.nn.p2pnet.model import P2PNet, grid, sample
from pathasst.nn.p2pnet.settings import P2PNetSettings

SMALL = P2PNetSettings(classes=("positive", "negative"), channels=(8, 16, 24, 32), neck=16, hidden=16)


def test_grid_points_are_centres_of_their_squares():
    points = grid(16, 24, 8)
    assert points.tolist() == [[4, 4], [12, 4], [20, 4], [4, 12], [12, 12], [20, 12]]


@pytest.mark.parametrize("stride", [1, 4, 8])
def test_sampling_reads_the_pixel_whose_centre_the_point_is(stride):
    # A map whose value is its own position: the centre of cell (i, j) lies at ((j + 0.5)·s, (i + 0.5)·s) px.
    h, w = 6, 10
    y, x = torch.meshgrid((torch.arange(h) + 0.5) * stride, (torch.arange(w) + 0.5) * stride, indexing="ij")
    maps = torch.stack([x, y])[None].float()
    centres = torch.stack([x, y], -1).reshape(1, -1, 2)
    assert torch.allclose(sample(maps, centres, h * stride, w * stride), centres, atol=1e-4)
    between = torch.tensor([[[3.3 * stride, 2.8 * stride]]])
    assert torch.allclose(sample(maps, between, h * stride, w * stride), between, atol=1e-4)


def test_a_new_network_proposes_the_grid():
    net = P2PNet(SMALL).eval()
    with torch.no_grad():
        out = net(torch.rand(2, 3, 64, 96))
    assert out.points.shape == (2, 8 * 12, 2) and out.logits.shape == (2, 8 * 12, 3)
    assert torch.allclose(out.points[1], grid(64, 96, 8))


def test_a_shift_of_the_picture_by_a_stride_shifts_the_answer():
    torch.manual_seed(0)
    net = P2PNet(SMALL).eval()
    canvas = torch.rand(1, 3, 96, 160)
    with torch.no_grad():
        left, right = net(canvas[..., :128]), net(canvas[..., 16:144])
    shifted = right.logits.view(12, 16, 3)[2:-2, 4:10]
    same = left.logits.view(12, 16, 3)[2:-2, 6:12]
    assert (shifted - same).abs().mean() < 0.3 * same.std()


@pytest.mark.parametrize(
    "wrong", [{"backbone": "no_such_net"}, {"strides": (4, 7)}, {"backbone": "convnext_atto", "channels": (8, 8, 8, 8)}]
)
def test_impossible_backbones_are_refused(wrong):
    with pytest.raises(BadSettings):
        P2PNet(P2PNetSettings(classes=("a",), **wrong))


def test_gradients_reach_the_moves_of_the_proposals():
    net = P2PNet(SMALL)
    out = net(torch.rand(1, 3, 64, 64))
    (out.points.sum() + out.logits.square().sum()).backward()
    assert net.deform[2].weight.grad.abs().sum() > 0 and np.isfinite(float(net.deform[0].weight.grad.sum()))


@pytest.mark.skipif(not weights.present("efficientnet-lite0"), reason="EfficientNet-Lite0 is not here: pathasst models pull it")
def test_a_pretrained_lite0_is_cut_after_the_last_stride_and_filled_with_imagenets_weights():
    from pathasst.nn.p2pnet.train import start_from
    from pathasst.nn.pretrained import efficientnet_lite0

    net = P2PNet(P2PNetSettings(classes=("a",), backbone="tf_efficientnet_lite0", strides=(4, 8, 16), neck=16, hidden=16))
    assert start_from(net, "efficientnet-lite0") == len(net.backbone.body.state_dict())
    assert len(net.backbone.body.blocks) == 5 and sum(p.numel() for p in net.backbone.parameters()) < 8e5
    assert torch.equal(net.backbone.body.conv_stem.weight, efficientnet_lite0().conv_stem.weight)
    assert [m.shape[-1] for m in net.backbone(torch.rand(1, 3, 64, 64))] == [16, 8, 4]
