"""The pretrained backbone sees: it names a real photograph rightly, and refuses what its weights do not fit."""

import pytest
import torch
from skimage import data

from pathasst.core import weights
from pathasst.core.errors import BadSettings
from pathasst.nn.pretrained import MEAN, STD, efficientnet_lite0, text_encoder

pytestmark = pytest.mark.skipif(not weights.present("efficientnet-lite0"), reason="pull efficientnet-lite0 first")


def picture(pixels) -> torch.Tensor:
    x = torch.tensor(pixels.copy()).permute(2, 0, 1)[None].float() / 255
    x = torch.nn.functional.interpolate(x, size=(224, 224), mode="bicubic", antialias=True)
    return (x - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]


def test_features_tell_two_crops_of_one_picture_from_another_picture():
    model = efficientnet_lite0().eval()
    crops = data.chelsea()[:, :300], data.chelsea()[:, 150:], data.coffee()[:, :400]
    with torch.no_grad():
        a, b, c = (torch.nn.functional.normalize(model(picture(p)), dim=-1)[0] for p in crops)
    assert a.shape == (1280,)
    assert float(a @ b) > float(a @ c) + 0.1


def test_feature_maps_and_a_fresh_head():
    maps = efficientnet_lite0(features_only=True).eval()(torch.zeros(1, 3, 64, 64))
    assert [m.shape[-1] for m in maps] == [32, 16, 8, 4, 2]
    assert efficientnet_lite0(classes=4).eval()(torch.zeros(1, 3, 64, 64)).shape == (1, 4)


def test_weights_that_do_not_fit_are_an_error_not_a_silence():
    with pytest.raises((BadSettings, RuntimeError)):
        efficientnet_lite0(in_chans=5)


@pytest.mark.skipif(not weights.present("minilm"), reason="minilm is not fetched (make models)")
def test_a_text_encoder_is_loaded_once_and_learns_nothing() -> None:
    folder = weights.path("minilm")
    one = text_encoder(folder)
    assert text_encoder(folder) is one
    assert not any(p.requires_grad for p in one.parameters())
    assert text_encoder(folder, "bfloat16", "eager") is not one
