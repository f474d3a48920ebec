"""Texts → unit vectors: the embedders of the recipes, and the 8-bit form in which vectors are kept. Knows no index.

The paper (Paper Retrieval) embeds abstracts with PubMedBERT; MedCPT (a query and an article encoder) is the measured
alternative, and all-MiniLM-L6-v2 the embedded default. All are BERT encoders with a pooling, loaded from the registry of weights.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pathasst.core import weights
from pathasst.core.errors import BadInput, BadSettings
from pathasst.core.hardware import device_of, has_fast_bfloat16
from pathasst.core.records import Abstract
from pathasst.nn.pretrained import text_encoder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TOKENS_A_BATCH = 2048  # fits the caches of one core; larger batches are slower
MAX_CHARACTERS = 20_000  # longer texts are cut before the tokenizer sees them; the model reads 256 tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedderSpec:
    """Which encoder reads documents, which reads queries, and how token vectors become one."""

    documents: str  # id in the registry of weights, or a folder
    queries: str = ""  # empty: the same encoder
    pooling: str = "mean"  # mean | cls
    max_tokens: int = 256
    segments: bool = False  # documents are read as two segments, title and text


EMBEDDERS = {
    "minilm": EmbedderSpec(documents="minilm"),
    "pubmedbert": EmbedderSpec(documents="pubmedbert", max_tokens=512),
    "medcpt": EmbedderSpec(documents="medcpt-article", queries="medcpt-query", pooling="cls", max_tokens=512, segments=True),
}


def text_of(abstract: Abstract) -> str:
    """What is embedded of an abstract: title and text."""
    return join_text(abstract.title, abstract.abstract)


def join_text(title: str, abstract: str) -> str:
    """As `text_of`, from the two parts."""
    return f"{title}\n{abstract}".strip()


def key_of(text: str) -> int:
    """A signed 64-bit number that stands for a text; vectors are cached by it."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest(), "little", signed=True)


class Embedder:
    """One recipe's embedder. `documents` and `queries` give float32 [n, dim] arrays of unit length; n = 0 is fine.

    On CPUs that multiply bfloat16 in hardware (AMX, AVX512-BF16) documents run in bfloat16, three times as fast, elsewhere in
    float32: the cosine between the two is above 0.9999. 8-bit ONNX is as fast and further off (0.994): docs/measured/papers.md.
    """

    def __init__(self, spec: EmbedderSpec | str = "minilm", *, threads: int | None = None, dtype: str = "auto") -> None:
        """Raises BadSettings for an unknown name or dtype (auto | float32 | bfloat16), MissingWeights without the files."""
        import torch

        self.spec = _spec(spec)
        if threads:
            torch.set_num_threads(threads)
        if dtype not in ("auto", "float32", "bfloat16"):
            raise BadSettings(f"dtype {dtype!r} is unknown; choose auto, float32 or bfloat16.")
        self._device = device_of()  # of documents, millions of them; one query is as quick on the CPU
        fast = dtype == "bfloat16" or (dtype == "auto" and has_fast_bfloat16(self._device))
        weights.path(self.spec.documents)  # raises now, not at the first document
        self._dtype = "bfloat16" if fast else "float32"
        # One short query gains nothing from bfloat16, so queries keep full precision.
        self._queries = _Encoder(self.spec.queries or self.spec.documents, self.spec)
        self.dim: int = self._queries.dim

    @property
    def version(self) -> str:
        """The weights, pooling and length that made a vector; vectors of different versions do not mix."""
        return version_of(self.spec)

    def documents(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self._documents(texts)

    def queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self._queries(texts)

    @cached_property
    def _documents(self) -> _Encoder:
        """Made when the first document comes: a search has none."""
        return _Encoder(self.spec.documents, self.spec, self._dtype, segments=self.spec.segments, device=self._device)


def version_of(spec: EmbedderSpec | str) -> str:
    """As `Embedder.version`, without loading the model."""
    spec = _spec(spec)
    return f"{weights.version(spec.documents)}/{spec.pooling}{spec.max_tokens}{'s' if spec.segments else ''}"


def _spec(spec: EmbedderSpec | str) -> EmbedderSpec:
    if isinstance(spec, EmbedderSpec):
        return spec
    try:
        return EMBEDDERS[spec]
    except KeyError:
        raise BadSettings(f"no embedder is called {spec!r}; choose one of {', '.join(EMBEDDERS)}.") from None


class _Encoder:
    """A BERT with its tokenizer."""

    def __init__(
        self, id: str, spec: EmbedderSpec, dtype: str = "float32", *, segments: bool = False, device: str = "cpu"
    ) -> None:
        folder = weights.path(id)
        self.spec, self.segments = spec, segments
        self.tokenizer = load_tokenizer(folder)
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(spec.max_tokens)
        # Plain matrix products outrun the fused attention in bfloat16 on CPUs.
        self.model = text_encoder(folder, dtype, "eager" if dtype == "bfloat16" and device == "cpu" else "sdpa").to(device)
        self.dim = int(self.model.config.hidden_size)

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        import numpy as np

        try:
            encodings = self.tokenizer.encode_batch([self._input(clean_text(t)) for t in texts])
        except (TypeError, UnicodeError) as error:
            raise BadInput(f"a text cannot be embedded: {error}") from error
        out = np.zeros((len(encodings), self.dim), np.float32)
        for rows in batches_of([e.ids for e in encodings]):
            out[rows] = self._forward([encodings[r] for r in rows])
        return out

    def _input(self, text: str) -> str | tuple[str, str]:
        """The text, or its first line and the rest (see `join_text`)."""
        title, _, rest = text.partition("\n")
        return (title, rest) if self.segments and rest else text

    def _forward(self, encodings: list[Any]) -> NDArray[np.float32]:
        import torch

        shape = (len(encodings), max(len(e.ids) for e in encodings))
        tokens, mask, kinds = (torch.zeros(shape, dtype=torch.long) for _ in range(3))
        for row, encoding in enumerate(encodings):
            tokens[row, : len(encoding.ids)] = torch.tensor(encoding.ids)
            mask[row, : len(encoding.ids)] = 1
            kinds[row, : len(encoding.ids)] = torch.tensor(encoding.type_ids)
        with torch.inference_mode():
            tokens, mask, kinds = (t.to(self.model.device) for t in (tokens, mask, kinds))
            states = self.model(input_ids=tokens, attention_mask=mask, token_type_ids=kinds).last_hidden_state.float()
            means = (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
            pooled = states[:, 0] if self.spec.pooling == "cls" else means
            return torch.nn.functional.normalize(pooled, dim=1).cpu().numpy()


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer of a folder; older BERT models come with their vocabulary alone."""
    from tokenizers import BertWordPieceTokenizer, Tokenizer

    if (folder / "tokenizer.json").is_file():
        return Tokenizer.from_file(str(folder / "tokenizer.json"))
    return BertWordPieceTokenizer(str(folder / "vocab.txt"), lowercase=True)


def clean_text(text: str) -> str:
    """Short enough, and valid Unicode: a lone surrogate would stop the tokenizer."""
    return text[:MAX_CHARACTERS].encode("utf-8", "replace").decode("utf-8")


def batches_of(ids: list[list[int]]) -> Iterator[list[int]]:
    """Row numbers, sorted by length so that little is padded, in batches of about TOKENS_A_BATCH tokens."""
    batch: list[int] = []
    for row in sorted(range(len(ids)), key=lambda r: len(ids[r])):
        if batch and len(ids[row]) * (len(batch) + 1) > TOKENS_A_BATCH:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def to_bytes(vectors: NDArray[np.float32]) -> NDArray[np.int8]:
    """Unit vectors [n, d] as signed bytes, each scaled by its own largest value. The scale is not kept: the length is known."""
    import numpy as np

    peak = np.abs(vectors).max(axis=1, keepdims=True, initial=1e-12)
    return np.rint(vectors * (127 / peak)).astype(np.int8)


def from_bytes(codes: NDArray[np.int8]) -> NDArray[np.float32]:
    """The unit vectors behind `to_bytes`, float32 [n, d]."""
    import numpy as np

    vectors = codes.astype(np.float32)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return vectors
