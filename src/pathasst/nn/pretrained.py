"""Pretrained networks that several rooms share: EfficientNet-Lite0, and sentence encoders such as MiniLM. Knows no task.

EfficientNet-Lite0 with ImageNet weights is the backbone and teacher of the embedded recipe. No CLIP and no ConvNeXt can be had
from the package index, and these 3.4 M parameters can (weights `efficientnet-lite0`). A small set of pathology pictures teaches a
network that has seen ImageNet far more than one that has seen nothing.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pathasst.core import weights
from pathasst.core.errors import BadSettings

if TYPE_CHECKING:
    from torch import nn

NAME = "tf_efficientnet_lite0"
"""timm's name of the architecture: SAME padding, ReLU6, no squeeze-and-excitation, 1280 features, strides 2–32."""
LITE0_FILE = "efficientnet-lite0-57934424.pth"
MEAN = STD = (0.5, 0.5, 0.5)
"""Pixel values are scaled to −1…1, as the weights were trained."""


def efficientnet_lite0(classes: int = 0, *, pretrained: bool = True, **options: Any) -> nn.Module:
    """A timm EfficientNet-Lite0, float32, training mode: picture [b, 3, h, w] → [b, classes] ([b, 1280] features with 0 classes).

    Args:
        classes: size of a fresh head, 0 for none.
        pretrained: load the ImageNet weights; False builds the bare architecture, to be filled from a file of ours.
        options: passed to `timm.create_model`, such as `drop_rate` or `features_only=True`.

    Raises:
        MissingWeights: the weights are not on this machine; says how to get them.
        BadSettings: `options` ask for layers that the released weights do not have.

    """
    import timm

    model = timm.create_model(NAME, pretrained=False, num_classes=classes, **options)
    if not pretrained:
        return model
    source = _released()
    fresh = timm.create_model(NAME, pretrained=False).state_dict()
    keys = [k for k in fresh if not k.endswith("num_batches_tracked")]
    values = [v for k, v in source.items() if not k.endswith("num_batches_tracked")]
    # The released file names its layers otherwise, but lists them in the same order.
    state = {k: v for k, v in zip(keys, values, strict=True) if not k.startswith("classifier.")}
    left = model.load_state_dict(state, strict=False)
    unknown = [k for k in left.missing_keys if not k.startswith("classifier.")]
    if unknown:
        raise BadSettings(f"{NAME}: the released weights have nothing for {', '.join(unknown[:3])}")
    return model


def left_out(id: str) -> dict[str, Any]:
    """The tensors that a file of ours built on the weights `id` may leave out, rounded as its fp16 would hold them; none for "".

    Raises BadSettings for weights that nothing is built on, and MissingWeights.
    """
    if not id:
        return {}
    if id != "efficientnet-lite0":
        raise BadSettings(f"a network can be built on efficientnet-lite0, not on {id!r}.")
    state = efficientnet_lite0().state_dict()
    return {k: v.half().float() if v.is_floating_point() else v for k, v in state.items()}


@lru_cache(maxsize=8)
def text_encoder(folder: Path, dtype: str = "float32", attention: str = "sdpa") -> Any:
    """The encoder (a `transformers.BertModel` or like it) in `folder`, in eval mode: loaded once a process and shared.

    So nobody may train it, move it or change its precision. `attention`: as transformers names it (sdpa | eager).
    """
    import torch
    from transformers import AutoModel

    model = weights.load_quietly(AutoModel, folder, attn_implementation=attention)
    return model.eval().requires_grad_(False).to(getattr(torch, dtype))


def _released() -> dict[str, Any]:
    import torch

    file = weights.path("efficientnet-lite0") / LITE0_FILE
    state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    return state
