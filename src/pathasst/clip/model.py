"""PathCLIP as a person uses it: load, encode pictures and texts, classify, compare; hand the vision tower to LLaVA.

Knows OpenCLIP models and where weights lie; does not train. The costly call (`encode_text` of the prompts) is separate from the
cheap one, and everything comes back as float32 arrays with unit rows.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pathasst.clip import DEFAULT_PATHCLIP
from pathasst.clip.build import CONFIG, WEIGHTS, ClipConfig, build, load_own_state, own_state, tokenizer_of
from pathasst.core import weights
from pathasst.core.errors import BadInput, BadSettings, MissingWeights

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image
    from torch import nn
    from transformers import CLIPVisionModel

    Picture = Image | np.ndarray

BATCH = 64


class DualEncoder(ABC):
    """Pictures and texts → vectors of one space, and what follows from these alone. PathCLIP by torch, or by ONNX Runtime."""

    config: ClipConfig
    version: str

    @abstractmethod
    def encode_image(self, images: Iterable[Picture], batch: int = BATCH) -> np.ndarray:
        """Pictures → float32 [n, d], unit rows."""

    @abstractmethod
    def encode_text(self, texts: Sequence[str], batch: int = 256) -> np.ndarray:
        """Texts → float32 [n, d], unit rows. Words beyond the context length are cut."""

    @property
    @abstractmethod
    def logit_scale(self) -> float:
        """What cosines are multiplied by before a softmax."""

    @abstractmethod
    def fingerprint(self) -> str:
        """A hash of the weights and settings: a model trained anew under an old name is another one."""

    def similarity(self, images: Iterable[Picture], texts: Sequence[str]) -> np.ndarray:
        """Cosine of every picture with every text: float32 [n, m] in −1 … 1."""
        return self.encode_image(images) @ self.encode_text(texts).T

    def classify(self, images: Iterable[Picture], prompts: Sequence[str | Sequence[str]]) -> np.ndarray:
        """Zero-shot probabilities, float32 [n, classes]; a class is one prompt or an ensemble of them."""
        logits = self.logit_scale * self.encode_image(images) @ self.encode_classes(prompts).T
        logits -= logits.max(axis=1, keepdims=True)
        odds = np.exp(logits)
        return odds / odds.sum(axis=1, keepdims=True)

    def encode_classes(self, prompts: Sequence[str | Sequence[str]]) -> np.ndarray:
        """One unit vector per class, float32 [classes, d]: the mean of its prompts' embeddings, normalised (as CONCH)."""
        vectors = [self.encode_text([p] if isinstance(p, str) else list(p)).mean(axis=0) for p in prompts]
        stacked = np.stack(vectors)
        return stacked / np.linalg.norm(stacked, axis=1, keepdims=True)


class PathCLIPModel(DualEncoder):
    """A CLIP with its tokenizer and preprocessing.

    >>> clip = PathCLIPModel.load("pathclip-lite")
    >>> clip.classify([picture], ["lung adenocarcinoma", "benign lung tissue"])   # [1, 2] probabilities
    """

    def __init__(self, model: nn.Module, config: ClipConfig, version: str = "") -> None:
        self.model, self.config, self.version = model.eval(), config, version
        self._tokenizer: Any = None

    @classmethod
    def load(cls, id: str | Path = DEFAULT_PATHCLIP, *, activation: str = "", arch: str = "", device: str = "") -> PathCLIPModel:
        """Load by registry id or path: our or OpenCLIP's folder, a Hugging Face CLIP folder, or an OpenCLIP checkpoint file;
        or by an OpenCLIP name with its pretrained tag, `ViT-B-16/openai`, fetched where it is not in OpenCLIP's cache.

        A bare checkpoint file (such as the released PathCLIP) does not say its architecture or activation: give both, e.g.
        `arch="ViT-B-16", activation="quick_gelu"`. A given `activation` that contradicts the stored one raises BadSettings.
        `device`: `cuda`, `cpu` …; by default a GPU where there is one.
        Raises MissingWeights when nothing lies there, BadInput when the weights do not fit.
        """
        import torch

        from pathasst.clip.files import load_any, load_named

        name, place = str(id), Path(id)
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        if name.count("/") == 1 and name not in weights.registry() and not place.exists():
            model, config = load_named(*name.split("/"), activation=activation)
            return cls(model.to(device), config, name)
        registered = name in weights.registry() or not place.exists()  # an unknown name that is no path: weights.path says so
        model, config = load_any(weights.path(name) if registered else place, activation=activation, arch=arch)
        return cls(model.to(device), config, weights.version(name) if registered else place.name)

    def save(self, folder: Path | str, dtype: str = "float16") -> None:
        """Write `open_clip_config.json` and `model.safetensors`; a pretrained text tower is found again by name."""
        import torch
        from safetensors.torch import save_file

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        kind = getattr(torch, dtype)
        state = {k: (v.to(kind) if v.is_floating_point() else v).contiguous().clone() for k, v in own_state(self.model).items()}
        save_file(state, folder / WEIGHTS, metadata={"format": "pt"})
        self.config.write(folder)

    @property
    def image_size(self) -> int:
        return self.config.image_size

    @property
    def device(self) -> torch.device:
        """Where the model is; what it is given follows it there."""
        return self.model.logit_scale.device  # type: ignore[union-attr, return-value]

    def preprocess(self, image: Picture) -> torch.Tensor:
        """PIL picture or H×W×3 uint8 → float32 3×S×S: shorter side to S (bicubic), centre crop, normalised.

        Some models of OpenCLIP's are for another geometry (`resize_mode` and `interpolation` of the configuration), and get it.
        """
        import torch

        return torch.from_numpy(to_pixels(image, self.config))

    def preprocessor_config(self) -> dict[str, Any]:
        """The content of `preprocessor_config.json`: the same preprocessing in the notation of `CLIPImageProcessor`."""
        size = self.image_size
        return {
            "image_processor_type": "CLIPImageProcessor",
            "do_convert_rgb": True,
            "do_resize": True,
            "size": {"height": size, "width": size} if self.config.resize_mode == "squash" else {"shortest_edge": size},
            "resample": 3 if self.config.interpolation == "bicubic" else 2,
            "do_center_crop": True,
            "crop_size": {"height": size, "width": size},
            "do_rescale": True,
            "rescale_factor": 1 / 255,
            "do_normalize": True,
            "image_mean": list(self.config.mean),
            "image_std": list(self.config.std),
        }

    def vision_tower(self) -> CLIPVisionModel:
        """The vision tower as a Hugging Face `CLIPVisionModel`, fp32, eval mode, with its activation in the config."""
        from pathasst.clip.convert import to_vision_model

        return to_vision_model(self.model, self.config)

    def encode_image(self, images: Iterable[Picture], batch: int = BATCH) -> np.ndarray:
        import torch

        out: list[np.ndarray] = []
        pile: list[torch.Tensor] = []
        for image in images:
            pile.append(self.preprocess(image))
            if len(pile) == batch:
                out.append(self.encode_pixels(torch.stack(pile)))
                pile = []
        if pile:
            out.append(self.encode_pixels(torch.stack(pile)))
        return np.concatenate(out) if out else np.zeros((0, self.config.model["embed_dim"]), np.float32)

    def encode_pixels(self, pixels: torch.Tensor) -> np.ndarray:
        """Preprocessed float32 [n, 3, S, S] → float32 [n, d], unit rows."""
        import torch

        with torch.inference_mode():
            vectors = self.model.encode_image(pixels.to(self.device), normalize=True)  # type: ignore[operator]
            return vectors.float().cpu().numpy()  # type: ignore[no-any-return]

    def encode_text(self, texts: Sequence[str], batch: int = 256) -> np.ndarray:
        import torch

        if not len(texts):
            return np.zeros((0, self.config.model["embed_dim"]), np.float32)
        from pathasst.clip.text import encode_text

        if self._tokenizer is None:
            self._tokenizer = tokenizer_of(self.config)
        out = []
        with torch.inference_mode():
            for start in range(0, len(texts), batch):
                ids = self._tokenizer(list(texts[start : start + batch])).to(self.device)
                out.append(encode_text(self.model, self.config, ids).float().cpu().numpy())
        return np.concatenate(out)

    @property
    def logit_scale(self) -> float:
        return float(self.model.logit_scale.detach().exp())  # type: ignore[operator, union-attr]

    def fingerprint(self) -> str:
        import torch

        digest = hashlib.sha256(repr(self.config).encode())
        for name, value in sorted(self.model.state_dict().items()):
            digest.update(name.encode() + value.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()


def to_pixels(image: Picture, config: ClipConfig) -> np.ndarray:
    """What `PathCLIPModel.preprocess` gives, as an array: float32 3×S×S."""
    square = to_square(image, config.image_size, config.interpolation, config.resize_mode)
    pixels = np.asarray(square, dtype=np.float32) / 255
    normal = (pixels - np.asarray(config.mean, np.float32)) / np.asarray(config.std, np.float32)
    return np.ascontiguousarray(normal.transpose(2, 0, 1))


def to_square(image: Picture, size: int, interpolation: str = "bicubic", resize_mode: str = "shortest") -> Image:
    """A picture as RGB of size × size px. Raises BadInput for what is none, BadSettings for an unknown geometry."""
    from PIL import Image as Pil

    if interpolation not in ("bicubic", "bilinear") or resize_mode not in ("shortest", "squash"):
        raise BadSettings(f"pictures cannot be resized by {resize_mode!r}, {interpolation!r}.")

    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise BadInput(f"a picture must be H×W×3 uint8, not {image.dtype} {image.shape}.")
        image = Pil.fromarray(image)
    image = image.convert("RGB")
    width, height = image.size
    if min(width, height) < 1:
        raise BadInput("a picture without pixels cannot be encoded.")
    long = max(size, int(size * max(width, height) / min(width, height)))  # CLIPImageProcessor rounds down too
    goal = (size, long) if width <= height else (long, size)
    if resize_mode == "squash":
        goal = (size, size)
    if goal != image.size:
        image = image.resize(goal, Pil.Resampling[interpolation.upper()])
    left, top = (goal[0] - size) // 2, (goal[1] - size) // 2
    return image.crop((left, top, left + size, top + size))


__all__ = ["CONFIG", "WEIGHTS", "MissingWeights", "PathCLIPModel", "build", "load_own_state"]
