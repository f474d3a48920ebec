"""Vision features in a basis in which a linear layer learns quickly, and the first guess of that layer.

The patch tokens of a tower vary thousands of times more in some directions than in others, so gradient descent on the FC
layer crawls in most of them. Training therefore sees whitened features, and the layer is written back into the tower's own
basis when it is saved: the same function, nothing is added to the model. Knows tensors; knows no training loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pathasst.mllm.pack import Sample

if TYPE_CHECKING:
    import torch

FLOOR = 0.02  # of the mean variance: directions with less are not blown up further
RIDGE = 0.3  # of the whitened features' variance
GAIN = 1.0  # size of the first guess, in standard deviations of word embeddings


@dataclass(frozen=True, slots=True)
class Basis:
    """x ↦ (x − mean) @ matrix, with a symmetric, invertible matrix (ZCA). Float32: width, width × width."""

    mean: torch.Tensor
    matrix: torch.Tensor

    @classmethod
    def of(cls, table: torch.Tensor) -> Basis:
        """Of a table of features, pictures × patches × width; the identity for an empty one."""
        import torch

        flat = table.reshape(-1, table.shape[-1])
        if len(flat) <= flat.shape[1]:
            return cls(torch.zeros(flat.shape[1]), torch.eye(flat.shape[1]))
        mean = flat.float().mean(0)
        spread = torch.zeros(flat.shape[1], flat.shape[1])
        for block in flat.split(1 << 16):
            centred = block.float() - mean
            spread += centred.T @ centred
        values, vectors = torch.linalg.eigh(spread.double() / len(flat))
        scales = (values.clamp(min=0) + FLOOR * values.mean()).rsqrt()
        return cls(mean, (vectors * scales @ vectors.T).float())

    def apply(self, table: torch.Tensor) -> torch.Tensor:
        """The table in this basis, float16."""
        import torch

        blocks = [((block.float() - self.mean) @ self.matrix).half() for block in table.split(512)]
        return torch.cat(blocks) if blocks else table

    def enter(self, layer: Any) -> None:
        """Change an `nn.Linear` on the tower's features so that it gives the same on whitened ones, in place."""
        import torch

        with torch.no_grad():
            layer.bias.add_((layer.weight.float() @ self.mean.to(layer.weight.device)).to(layer.bias.dtype))
            inverse = torch.linalg.inv(self.matrix.double()).float().to(layer.weight.device)
            layer.weight.copy_(layer.weight.float() @ inverse)

    def leave(self, layer: Any) -> None:
        """The opposite of `enter`."""
        import torch

        with torch.no_grad():
            layer.weight.copy_(layer.weight.float() @ self.matrix.to(layer.weight.device))
            layer.bias.sub_((layer.weight.float() @ self.mean.to(layer.weight.device)).to(layer.bias.dtype))


def first_guess(layer: Any, embedding: torch.Tensor, samples: Sequence[Sample], table: torch.Tensor) -> None:
    """Set the FC layer so that a picture's tokens point to where the words of its descriptions lie among the embeddings.

    Least squares with a ridge, from mean whitened features (`table`) to mean word embeddings (words × width) of what the
    assistant says, less what all descriptions have in common. The layer then learns from there by the paper's phase 1.
    """
    import torch

    described = [s for s in samples if s.images and s.supervised]
    if not described or layer.weight.shape[1] != table.shape[-1]:
        return
    pooled = table.float().mean(1)
    pictures = pooled[torch.tensor([s.images[0] for s in described])]
    words = torch.stack([embedding[torch.from_numpy(s.ids[s.mask]).long()].float().mean(0) for s in described])
    centred = words - words.mean(0)
    gram = pictures.T @ pictures / len(pictures)
    ridge = RIDGE * gram.diagonal().mean() * torch.eye(gram.shape[0])
    weight = torch.linalg.solve(gram + ridge, pictures.T @ centred / len(pictures)).T  # word width × feature width
    spread = embedding.float().std(0).mean()
    with torch.no_grad():
        layer.weight.copy_(weight * (GAIN * spread / (pictures @ weight.T).std(0).mean().clamp(min=1e-6)))
        layer.bias.copy_(embedding.float().mean(0))
