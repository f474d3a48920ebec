"""Select: is this picture pathology? (paper, PathCap step 1: a ConvNeXt filters the crawled pictures.)

Knows pictures and a ConvNeXt; knows nothing of figures, captions or licences. Two checkpoint layouts are read:

- ours: a folder with `model.safetensors` and `config.json` (architecture, input size, temperature, threshold);
- the released `jamessyx/convnext-pathology-classifier`: a torch file whose key `model` holds a timm `convnext_tiny` under
  `model_global.*` and a linear layer `fc`; 224×224, ImageNet statistics, class 1 = pathology.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pathasst import weights
from pathasst.dataset.manifest import sha256_of
from pathasst.errors import BadInput, BadSettings, MissingWeights

if TYPE_CHECKING:
    import numpy as np
    import torch

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
EMBEDDED = "select-embedded"


@dataclass(frozen=True, slots=True)
class SelectConfig:
    """What `config.json` beside the weights holds."""

    dims: tuple[int, ...] = (24, 48, 96, 160)
    depths: tuple[int, ...] = (1, 1, 3, 1)
    size: int = 112  # px; pictures are squashed to size×size, as the paper's classifier does
    layer_scale: float = 0.0  # start of ConvNeXt's layer scale; 0: none. 1e-6, the usual one, keeps short trainings shallow
    temperature: float = 1.0  # fitted on the validation split; logits are divided by it
    bias: float = 0.0  # fitted likewise; added to the pathology logit after the division
    threshold: float = 0.5  # of the calibrated probability

    def __post_init__(self) -> None:
        object.__setattr__(self, "dims", tuple(self.dims))
        object.__setattr__(self, "depths", tuple(self.depths))
        if len(self.dims) != 4 or len(self.depths) != 4:
            raise BadSettings("select: dims and depths need four values each, one per ConvNeXt stage.")
        if self.temperature <= 0 or not 0 < self.threshold < 1:
            raise BadSettings("select: temperature must be positive and threshold between 0 and 1.")

    @classmethod
    def load(cls, path: Path) -> SelectConfig:
        """Raises BadSettings when the file is not such a configuration."""
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            return cls(**values)
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise BadSettings(f"{path} is not a configuration of the select model: {error}") from error

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")


class Selector:
    """A loaded classifier: pictures in, calibrated probabilities of pathology out."""

    def __init__(self, model: torch.nn.Module, config: SelectConfig, version: str) -> None:
        self.model = model.eval()
        self.config = config
        self.version = version

    @classmethod
    def load(cls, source: str | Path = EMBEDDED) -> Selector:
        """`source`: a registry id, a folder in our layout, or a torch file in the paper's layout.

        Raises MissingWeights when nothing is there, BadInput when the file is no such checkpoint.
        """
        path = Path(source)
        if path.is_file():
            return cls._released(path)
        if path.is_dir():
            torch_files = [p for p in sorted(path.iterdir()) if p.suffix in (".pt", ".pth", ".bin")]
            if not (path / "config.json").is_file() and torch_files:
                return cls._released(torch_files[0])
            return cls._own(path, f"{path.name}@{sha256_of(path / 'model.safetensors')[:8]}")
        folder = weights.path(str(source))
        return cls._own(folder, weights.version(str(source)))

    @classmethod
    def _own(cls, folder: Path, version: str) -> Selector:
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        config = SelectConfig.load(folder / "config.json")
        model = build(config)
        try:
            model.load_state_dict({k: v.float() for k, v in load_file(folder / "model.safetensors").items()})
        except (SafetensorError, OSError, RuntimeError) as error:
            raise BadInput(f"{folder}/model.safetensors does not fit its config.json: {error}") from error
        return cls(model, config, version)

    @classmethod
    def _released(cls, path: Path) -> Selector:
        model = build_released()
        model.load_state_dict(_released_state(path))
        return cls(model, SelectConfig(size=224), f"{path.stem}@{sha256_of(path)[:8]}")

    def score(self, images: Sequence[np.ndarray], batch: int = 32) -> np.ndarray:
        """Calibrated probability of pathology for each H×W×3 uint8 RGB picture; float32, shape (n,)."""
        import numpy as np

        scores = [self._batch(images[i : i + batch]) for i in range(0, len(images), batch)]
        return np.concatenate(scores) if scores else np.zeros(0, np.float32)

    def _batch(self, images: Sequence[np.ndarray]) -> np.ndarray:
        import torch

        with torch.inference_mode():
            logits = self.model(to_tensor(images, self.config.size)).float()
        return probability(logits, self.config).numpy()

    def keeps(self, score: float) -> bool:
        """Whether a probability counts as pathology."""
        return score >= self.config.threshold


def probability(logits: torch.Tensor, config: SelectConfig) -> torch.Tensor:
    """Calibrated probability of class 1 from logits (n, 2): sigmoid(difference / temperature + bias)."""
    return ((logits[:, 1] - logits[:, 0]) / config.temperature + config.bias).sigmoid()


def to_tensor(images: Sequence[np.ndarray], size: int) -> torch.Tensor:
    """H×W×3 uint8 RGB pictures as a float tensor (n, 3, size, size): squashed, antialiased, ImageNet statistics."""
    import cv2
    import numpy as np
    import torch

    pixels = np.empty((len(images), size, size, 3), np.float32)
    for i, image in enumerate(images):
        shrink = min(image.shape[:2]) > size
        pixels[i] = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA if shrink else cv2.INTER_LINEAR)
    scaled = torch.from_numpy(pixels) / 255.0
    return ((scaled - torch.tensor(MEAN)) / torch.tensor(STD)).permute(0, 3, 1, 2)


def build(config: SelectConfig) -> torch.nn.Module:
    """An untrained timm ConvNeXt of the configured size with two classes (0 other, 1 pathology)."""
    from timm.models.convnext import ConvNeXt

    scale = config.layer_scale or None
    model: torch.nn.Module = ConvNeXt(depths=config.depths, dims=config.dims, num_classes=2, ls_init_value=scale)
    return model


def build_released() -> torch.nn.Module:
    """The paper's classifier: timm `convnext_tiny` without head, then one linear layer to two classes."""
    import timm
    from torch import nn

    class Released(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model_global = timm.create_model("convnext_tiny", pretrained=False, num_classes=0)
            self.fc = nn.Linear(768, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.fc(self.model_global(x))
            return out

    return Released()


def _released_state(path: Path) -> dict[str, Any]:
    import pickle

    import torch

    if not path.is_file():
        raise MissingWeights(f"{path} is not there; fetch jamessyx/convnext-pathology-classifier and give its file.")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise BadInput(f"{path} cannot be read as plain weights (nothing else is loaded): {error}") from error
    state = content.get("model") if isinstance(content, dict) else None
    if not isinstance(state, dict) or "fc.weight" not in state:
        raise BadInput(f"{path} has no `model` with `model_global.*` and `fc`: not the released select classifier.")
    return {k.removeprefix("module."): v for k, v in state.items()}
