from __future__ import annotations

import numpy as np
import pytest
import timm
import torch

from pathasst.nn import multiscale, pretrained


@pytest.fixture(scope="module")
def net() -> multiscale.Levels:
    torch.manual_seed(0)
    return multiscale.Levels().eval()


def test_it_has_the_tensors_of_lite0_and_its_last_features(net: multiscale.Levels) -> None:
    plain = pretrained.efficientnet_lite0(pretrained=False).eval()
    plain.load_state_dict(net.state_dict())
    pixels = torch.randn(2, 3, 64, 96)
    with torch.inference_mode():
        features, last = net(pixels), plain(pixels)
    assert features.shape == (2, net.num_features) == (2, 3 * 2064)
    torch.testing.assert_close(features[:, 2064 - 1280 : 2064], last)


def test_means_deviations_and_means_around_the_centre(net: multiscale.Levels) -> None:
    kept = []
    handle = net.blocks[1].register_forward_hook(lambda _, __, out: kept.append(out))
    with torch.inference_mode():
        features = net(torch.randn(1, 3, 64, 64))[0].numpy().reshape(3, 2064)[:, 16:40]
    handle.remove()
    maps = kept[0][0].numpy()  # 24 × 16 × 16
    y, x = (np.mgrid[:16, :16] + 0.5) / 16 - 0.5
    bell = np.exp(-(x**2 + y**2) / (2 * 0.2**2))
    expected = [maps.mean((1, 2)), maps.std((1, 2)), (maps * bell).sum((1, 2)) / bell.sum()]
    np.testing.assert_allclose(features, expected, rtol=1e-4, atol=1e-5)


def test_timm_builds_it_by_name_with_a_head_and_its_statistics() -> None:
    model = timm.create_model(multiscale.NAME, pretrained=False, num_classes=4).eval()
    assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 4) and model.get_classifier().in_features == 6192
    assert timm.get_pretrained_cfg(multiscale.NAME).mean == pretrained.MEAN


def test_standardised_on_what_was_fitted_and_a_still_channel_stays_small() -> None:
    features = np.random.default_rng(0).normal([5, -40, 3], [0.1, 20, 0], (500, 3)).astype(np.float32)
    norm = multiscale.Standardise(3)
    norm.fit(features)
    seen = norm(torch.from_numpy(features)).numpy()
    np.testing.assert_allclose(seen.mean(0), 0, atol=1e-3)
    np.testing.assert_allclose(seen.std(0)[:2], 1, atol=1e-3)
    assert abs(seen[:, 2]).max() < 1e-3
    assert abs(norm(torch.tensor([[5.0, -40, 3.1]]))).max() < 4  # 0.1 off where it never varied
