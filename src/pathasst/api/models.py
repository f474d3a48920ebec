"""The two models as objects: `PathCLIP` to classify, compare and search pictures; `PathAsst` to talk about them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pathasst.clip import DEFAULT_PATHCLIP
from pathasst.core.records import IMAGE, Turn

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

    from pathasst.api.images import ImageLike
    from pathasst.clip.model import DualEncoder
    from pathasst.mllm.generate import PathAsstModel as Model

DEFAULT_PATHASST = "pathasst-embedded"


@dataclass(frozen=True)
class SearchHits:
    """Pictures that fit a text, best first: pairs of path and cosine; `sheet()` shows them."""

    text: str
    hits: list[tuple[Path, float]]
    unreadable: int  # files of the folder that could not be read

    def sheet(self, columns: int = 4) -> Image:
        """The hits as one PIL picture: thumbnails with rank, cosine and file name."""
        from pathasst.imaging.contact_sheet import contact_sheet

        words = ((path, f"{rank}. {cosine:.3f} {path.name}") for rank, (path, cosine) in enumerate(self.hits, 1))
        return contact_sheet(words, self.text, columns)

    def __iter__(self) -> Iterator[tuple[Path, float]]:
        return iter(self.hits)

    def __len__(self) -> int:
        return len(self.hits)


class PathCLIP:
    """A CLIP of pathology, by id, folder or checkpoint; on a CPU it runs in ONNX Runtime where that can be.

    Raises MissingWeights when nothing lies there, BadInput when the weights do not fit.

    >>> clip = pathasst.PathCLIP("pathclip-lite")
    >>> clip.classify("field.png", ["lung adenocarcinoma", "benign lung tissue"])
    {'lung adenocarcinoma': 0.97, 'benign lung tissue': 0.03}
    >>> clip.search("slides/", "signet ring cells", k=12).sheet().save("hits.png")
    """

    def __init__(self, model: str | Path = DEFAULT_PATHCLIP) -> None:
        from pathasst.clip.onnx import load

        self.encoder: DualEncoder = load(str(model), threads=0)

    def classify(
        self, image: ImageLike, labels: Sequence[str] | dict[str, Sequence[str]], *, template: str = "{}"
    ) -> dict[str, float]:
        """Zero-shot probabilities of the labels of one picture, most probable first.

        `labels`: texts; or label → several prompts whose mean counts. `template`: a prompt around each label, such as
        `"An H&E image of {}."`. Several pictures: `classify_many`. Raises BadInput for a picture that cannot be read.
        """
        return self.classify_many([image], labels, template=template)[0]

    def classify_many(
        self, images: Sequence[ImageLike], labels: Sequence[str] | dict[str, Sequence[str]], *, template: str = "{}"
    ) -> list[dict[str, float]]:
        """As `classify`, for several pictures; the labels are embedded once."""
        from pathasst.api.images import as_array

        prompts = labels if isinstance(labels, dict) else {label: [label] for label in labels}
        texts = [[template.format(text) for text in several] for several in prompts.values()]
        odds = self.encoder.classify((as_array(image) for image in images), texts)
        return [dict(sorted(zip(prompts, map(float, row), strict=True), key=lambda item: -item[1])) for row in odds]

    def embed(self, images: ImageLike | Sequence[ImageLike]) -> np.ndarray:
        """Pictures → float32 [n, d], unit rows. Raises BadInput for a picture that cannot be read."""
        from pathasst.api.images import as_array

        several: Sequence[ImageLike] = images if isinstance(images, list | tuple) else [images]  # type: ignore[list-item]
        return self.encoder.encode_image(as_array(image) for image in several)

    def embed_text(self, texts: str | Sequence[str]) -> np.ndarray:
        """Texts → float32 [n, d], unit rows. Words beyond the context length are cut."""
        return self.encoder.encode_text([texts] if isinstance(texts, str) else list(texts))

    def search(self, folder: Path | str, text: str, *, k: int = 12) -> SearchHits:
        """The `k` pictures of a folder and its subfolders that fit a text best; embeddings are cached.

        Raises BadDataset when the folder holds no picture that can be read.
        """
        from pathasst.clip.search import embed_folder, nearest
        from pathasst.core import weights
        from pathasst.core.errors import BadDataset

        paths, vectors, unreadable = embed_folder(self.encoder, folder, weights.cache_dir() / "clip-search")
        if not paths:
            raise BadDataset(f"none of the {unreadable} pictures in {folder} could be read.")
        best = nearest(vectors, self.encoder.encode_text([text])[0], k)
        return SearchHits(text, [(paths[row], cosine) for row, cosine in best], unreadable)


class PathAsst:
    """A trained PathAsst (PathCLIP + projector + language model), by id or folder, without tools.

    `ask` has the tools and the checks; what this class says is checked by nothing.
    Raises MissingWeights, BadSettings or BadInput.

    >>> assistant = pathasst.PathAsst("pathasst-embedded")
    >>> assistant.chat("field.png", "What does this picture show?")
    """

    def __init__(self, model: str | Path = DEFAULT_PATHASST, *, engine: str = "auto") -> None:
        from pathasst.mllm.generate import PathAsstModel as Model

        self.source = model
        self.model: Model = Model.load(model, engine=engine)
        self.turns: list[Turn] = []
        self._images: list[bytes] = []

    def chat(self, image: ImageLike | None, question: str, *, max_new_tokens: int = 160) -> str:
        """The model's words on a question. A picture begins a new conversation; None goes on with the last one.

        Raises BadInput when the picture cannot be read or the conversation is too long.
        """
        from pathasst.api.images import as_array
        from pathasst.imaging.pictures import encode_png

        mark = ""
        if image is not None:
            self.turns, self._images, mark = [], [encode_png(as_array(image))], f"{IMAGE}\n"
        turns = [*self.turns, Turn(role="user", content=mark + question)]
        answer = self.model.reply(turns, self._images, max_new_tokens=max_new_tokens)
        self.turns = [*turns, answer]
        return answer.content

    def export(self, out: Path | str, to: str = "huggingface") -> Path:
        """Write the model for another program: `huggingface` (a plain LLaVA checkpoint), `vllm` or `gguf`. Raises BadSettings."""
        from pathasst.mllm.export import export

        export(str(self.source), Path(out), to)
        return Path(out)


__all__ = ["PathAsst", "PathCLIP", "SearchHits"]
