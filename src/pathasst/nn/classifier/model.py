"""The classifier itself: a timm network, its folder on disk, and `predict`. Knows no training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pathasst.core import weights
from pathasst.core.checkpoints import read_state
from pathasst.core.errors import BadInput, BadSettings
from pathasst.core.hardware import device_of, has_fast_bfloat16
from pathasst.nn.classifier.settings import ClassifierConfig
from pathasst.nn.pretrained import left_out

if TYPE_CHECKING:
    import torch


def build(config: ClassifierConfig) -> Any:
    """An untrained network, N×3×size×size → N×classes. Raises BadSettings for a backbone that timm does not know."""
    try:
        return _timm().create_model(config.backbone, pretrained=False, num_classes=len(config.classes), **config.options)
    except (RuntimeError, TypeError, ValueError) as error:
        raise BadSettings(f"timm cannot make the backbone {config.backbone!r} with {config.options}: {error}") from error


def statistics(backbone: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(mean, std) of pixel values in 0–1 that the backbone's pretrained weights were fed; ImageNet's for one without any."""
    pretrained = _timm().get_pretrained_cfg(backbone)
    return (pretrained.mean, pretrained.std) if pretrained else ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def _timm() -> Any:
    """timm, which knows `pathasst.nn.multiscale` by name from then on."""
    import timm

    import pathasst.nn.multiscale  # noqa: F401

    return timm


def to_tensor(pictures: Sequence[np.ndarray], backbone: str) -> torch.Tensor:
    """N pictures S×S×3 uint8 → N×3×S×S float32, normalised as the backbone wants, in channels-last order."""
    import torch

    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in statistics(backbone))
    stacked = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)
    return ((stacked.float() / 255 - mean) / std).contiguous(memory_format=torch.channels_last)


class Classifier:
    """A trained classifier: pictures in, calibrated probabilities out. Made once, called often."""

    def __init__(self, network: Any, config: ClassifierConfig, version: str = "", device: str = "auto") -> None:
        import torch

        self.device = torch.device(device_of(device))
        self.network = network.eval().to(self.device, memory_format=torch.channels_last)
        self.config = config
        self.version = version
        # Where hardware multiplies bfloat16 it is more than twice as fast and changes no class.
        self.bf16 = has_fast_bfloat16(self.device.type)

    @property
    def classes(self) -> tuple[str, ...]:
        return self.config.classes

    @classmethod
    def load(cls, source: str | Path, device: str = "auto") -> Classifier:
        """`source`: an id of the registry of weights, or a folder with `model.safetensors` and `config.json`.

        Raises MissingWeights when nothing is there, BadInput when the files do not fit each other.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        folder = Path(source) if Path(source).is_dir() else weights.path(str(source))
        config = ClassifierConfig.load_from(folder)
        network = build(config)
        try:
            network.load_state_dict({**left_out(config.base), **_floats(load_file(folder / "model.safetensors"))})
        except (SafetensorError, OSError, RuntimeError) as error:
            raise BadInput(f"{folder}/model.safetensors does not fit its config.json: {str(error)[:300]}") from error
        return cls(network, config, weights.version(str(source)), device)

    def save(self, folder: Path) -> None:
        """Write `model.safetensors` (fp16) and `config.json`; what still equals `config.base` is left out."""
        import torch
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        state = {k: (v.half() if v.is_floating_point() else v).cpu().contiguous() for k, v in self.network.state_dict().items()}
        base = left_out(self.config.base)
        same = {
            k for k, v in state.items() if k in base and v.shape == base[k].shape and torch.equal(v.to(base[k].dtype), base[k])
        }
        save_file({k: v for k, v in state.items() if k not in same}, folder / "model.safetensors", metadata={"format": "pt"})
        (self.config if same else self.config.replace(base="")).save(folder)

    def predict(self, pictures: Sequence[np.ndarray], batch: int = 32) -> np.ndarray:
        """Calibrated probabilities, float32 [n, classes], of H×W×3 uint8 RGB pictures of any sizes."""
        import torch

        logits = torch.from_numpy(self.logits(pictures, batch))
        return (logits / self.config.temperature).softmax(1).numpy()

    def logits(self, pictures: Sequence[np.ndarray], batch: int = 32) -> np.ndarray:
        """The network's outputs before temperature and softmax, float32 [n, classes]."""
        logits = [self._run(pictures[i : i + batch]) for i in range(0, len(pictures), batch)]
        return np.concatenate(logits) if logits else np.zeros((0, len(self.classes)), np.float32)

    def features(self, pictures: Sequence[np.ndarray], batch: int = 32) -> np.ndarray:
        """Pooled features before the head, float32 [n, d]."""
        return np.concatenate([self._run(pictures[i : i + batch], True) for i in range(0, len(pictures), batch)])

    def _run(self, pictures: Sequence[np.ndarray], features: bool = False) -> np.ndarray:
        import torch

        from pathasst.nn.classifier.augment import squash

        pixels = to_tensor([squash(p, self.config.size) for p in pictures], self.config.backbone).to(self.device)
        with torch.inference_mode(), torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            if features:
                out = self.network.forward_head(self.network.forward_features(pixels), pre_logits=True)
            else:
                out = self.network(pixels)
        array: np.ndarray = out.float().cpu().numpy()
        return array


def _floats(state: dict[str, Any]) -> dict[str, Any]:
    return {k: v.float() if v.is_floating_point() else v for k, v in state.items()}


def start_from(network: Any, start: str) -> int:
    """Fill a network from `efficientnet-lite0` (ImageNet) or a checkpoint file; the head stays fresh if its size differs.

    Read are safetensors and plain torch files (`weights_only`), timm's names, also under `model` or `state_dict` and with the
    prefixes `module.` and `model_global.` (the paper's classifiers). Returns how many tensors fitted; raises BadInput when those
    are fewer than half.
    """
    state = _checkpoint(start)
    if "head.fc.weight" in network.state_dict():  # the paper's ConvNeXts have their last layer outside of timm's network
        state = {f"head.{k}" if k.startswith("fc.") else k: v for k, v in state.items()}
    from pathasst.nn.checkpoints import load_matching

    return load_matching(network, state, start)


def _checkpoint(start: str) -> dict[str, Any]:
    if start == "efficientnet-lite0":
        from pathasst.nn.pretrained import efficientnet_lite0

        return efficientnet_lite0().state_dict()
    return {k.removeprefix("model_global."): v for k, v in read_state(Path(start)).items()}
