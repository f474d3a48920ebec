"""A folded network says what it said before."""

import timm
import torch
from torch import nn

from pathasst.nn.fuse import fold


def trained(name: str, **options: object) -> nn.Module:
    """A network whose batch norms are not the identity."""
    torch.manual_seed(0)
    network = timm.create_model(name, **options)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    return network.eval()


def test_a_folded_network_gives_the_same_maps_without_norms_and_uneven_padding():
    network = trained("tf_efficientnet_lite0", features_only=True)
    pixels = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        before = network(pixels)
        after = fold(network)(pixels)
    for a, b in zip(before, after, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)
    kinds = {type(m).__name__ for m in network.modules()}
    assert not kinds & {"BatchNorm2d", "BatchNormAct2d", "Conv2dSame"}


def test_what_has_no_norm_after_a_convolution_stays():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.BatchNorm2d(4)).eval()
    assert [type(m) for m in fold(network)] == [nn.Conv2d, nn.ReLU, nn.BatchNorm2d]
