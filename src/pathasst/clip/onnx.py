"""PathCLIP by ONNX Runtime: the same vectors, with neither torch nor OpenCLIP imported, so that a worker starts in a second.

Knows folders that `PathCLIPModel.save` wrote. Both towers are written as ONNX once for each content of the weights, to the user's
cache. What cannot be written so (CLIP's own text tower with its byte pairs, other formats of weights) torch runs.
"""

from __future__ import annotations

import html
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pathasst.clip.build import CONFIG, REGISTRY, WEIGHTS, ClipConfig
from pathasst.clip.model import BATCH, DualEncoder, PathCLIPModel, to_pixels
from pathasst.core import weights
from pathasst.core.errors import BadInput
from pathasst.core.hardware import has_gpu
from pathasst.nn.onnx import cached_onnx, open_session

if TYPE_CHECKING:
    import torch

    from pathasst.clip.model import Picture

TEXT = ".text.onnx"  # beside `<hash>.onnx`, which is the vision tower


class OnnxClip(DualEncoder):
    """A PathCLIP run by ONNX Runtime on some threads (0: all cores). Gives what `PathCLIPModel` gives."""

    def __init__(self, folder: Path, version: str = "", threads: int = 1) -> None:
        """Raises MissingWeights as `PathCLIPModel.load`, BadInput when a tower cannot be written as ONNX."""
        from safetensors import safe_open
        from tokenizers import Tokenizer

        self.config, self.version = ClipConfig.read(folder), version or folder.name
        self.file = towers(folder)
        self.vision, self.text = open_session(self.file, threads), open_session(self.file.with_suffix(TEXT), threads)
        with safe_open(folder / WEIGHTS, "np") as stored:
            self._scale = float(np.exp(stored.get_tensor("logit_scale").astype(np.float32)))
        self.tokenizer = Tokenizer.from_file(str(weights.path(text_tower(self.config)) / "tokenizer.json"))
        self.tokenizer.enable_truncation(int(self.config.model["text_cfg"].get("context_length", 77)))
        self.tokenizer.enable_padding(pad_id=0)

    def encode_image(self, images: Iterable[Picture], batch: int = BATCH) -> np.ndarray:
        vectors, images = [np.zeros((0, self.config.model["embed_dim"]), np.float32)], iter(images)
        while some := [to_pixels(i, self.config) for i in islice(images, batch)]:
            vectors += self.vision.run(None, {"pixels": np.stack(some)})
        return np.concatenate(vectors)

    def encode_text(self, texts: Sequence[str], batch: int = 1) -> np.ndarray:
        vectors = [np.zeros((0, self.config.model["embed_dim"]), np.float32)]
        for text in texts:  # one at a time, whatever `batch` says: that costs less than padding
            vectors += self.text.run(None, {"ids": self.ids([text])})
        return np.concatenate(vectors)

    def ids(self, texts: Sequence[str]) -> np.ndarray:
        """Texts → int64 [n, longest], cleaned and cut as OpenCLIP's `HFTokenizer` does."""
        from ftfy import fix_text

        clean = [" ".join(html.unescape(html.unescape(fix_text(t))).split()) for t in texts]
        return np.array([e.ids for e in self.tokenizer.encode_batch(clean)], np.int64)

    @property
    def logit_scale(self) -> float:
        return self._scale

    def fingerprint(self) -> str:
        return self.file.stem  # the hash of the weights


def load(id: str, threads: int = 1) -> DualEncoder:
    """A PathCLIP by what `PathCLIPModel.load` takes: by ONNX Runtime where its towers can be written so, else by torch.

    With a GPU, by torch on it. `threads`: of ONNX Runtime; 0: all cores.
    """
    if not has_gpu() and (folder := _own_folder(id)):
        try:
            return OnnxClip(folder, weights.version(id) if id in weights.registry() else "", threads)
        except BadInput as error:
            warnings.warn(f"{id} is run by torch: {error}", stacklevel=2)
    return PathCLIPModel.load(id)


def prepare(id: str) -> None:
    """Write the towers where they can be and are not yet: once, before workers start that would each do it."""
    if folder := _own_folder(id):
        with suppress(BadInput):  # `load` tells
            towers(folder)


def _own_folder(id: str) -> Path | None:
    """The folder of a PathCLIP that `PathCLIPModel.save` wrote, with a text tower of ours."""
    folder = weights.path(id) if id in weights.registry() else Path(id)
    own = all((folder / name).is_file() for name in (WEIGHTS, CONFIG))
    return folder if own and text_tower(ClipConfig.read(folder)) else None


def towers(folder: Path) -> Path:
    """The vision tower as ONNX, the text tower beside it; written by torch if not there yet. Raises as `write`."""
    config = ClipConfig.read(folder)
    towers_used = [weights.version(n) for n in (text_tower(config), config.tower) if n]
    return cached_onnx(folder, write, files=(WEIGHTS, CONFIG), stamp=" ".join(towers_used))


def text_tower(config: ClipConfig) -> str:
    """Id of the weights of the text tower; empty where it is none of ours."""
    name = str(config.model["text_cfg"].get("hf_model_name", ""))
    return name.removeprefix(REGISTRY) if name.startswith(REGISTRY) else ""


def write(folder: Path, file: Path) -> None:
    """`file`: `pixels` float32 b×3×S×S, normalised → `vectors` b×d, unit rows. `<file>.text.onnx`: `ids` int64 b×n → the same.

    Raises MissingWeights, BadInput as `PathCLIPModel.load`; BadInput for a layer that ONNX lacks or computes otherwise.
    """
    import torch

    clip = PathCLIPModel.load(folder, device="cpu")
    clip.model.requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(2, 3, clip.image_size, clip.image_size, generator=generator)
    ids = torch.randint(1000, 2000, (2, 9), generator=generator)
    ids[1, 6:] = 0  # padding
    _write_tower(clip, "encode_image", pixels, file)
    _write_tower(clip, "encode_text", ids, file.with_suffix(TEXT))


def _write_tower(clip: PathCLIPModel, method: str, example: torch.Tensor, file: Path) -> None:
    import torch

    class Tower(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.clip = clip.model

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            vectors: torch.Tensor = getattr(self.clip, method)(x, normalize=True)
            return vectors

    input_name = "pixels" if method == "encode_image" else "ids"
    free = {input_name: {0: "b"} if input_name == "pixels" else {0: "b", 1: "n"}, "vectors": {0: "b"}}
    tower = Tower().eval()
    with warnings.catch_warnings(), _plain_attention():
        warnings.simplefilter("ignore")  # the newer exporter needs two packages more; this one is enough for these layers
        try:
            torch.onnx.export(
                tower, (example,), str(file), dynamo=False, opset_version=17,
                input_names=[input_name], output_names=["vectors"], dynamic_axes=free,
            )  # fmt: skip
        except torch.onnx.OnnxExporterError as error:
            raise BadInput(f"{method} cannot be written as ONNX: {str(error).splitlines()[0]}") from error
    other = example.flip(0)[:, ..., :-2] if input_name == "ids" else torch.cat([example, example]) / 2  # not what was traced
    cosines = (tower(other).numpy() * open_session(file).run(None, {input_name: other.numpy()})[0]).sum(1)
    if cosines.min() < 0.9999:
        raise BadInput(f"{method} as ONNX gives other vectors: cosine {cosines.min():.4f}.")


@contextmanager
def _plain_attention() -> Iterator[None]:
    """Attention by its parts: the fused operator that inference takes has no ONNX form."""
    import torch

    was = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(was)
