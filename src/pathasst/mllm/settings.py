"""Settings of `pathasst train mllm`, read from `recipes/<recipe>/mllm.yaml`. Knows no network and no data."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any, TypeVar

from pathasst.core.errors import BadSettings
from pathasst.mllm.model import ModelSettings

S = TypeVar("S")
LLAMA_LINEARS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


@dataclass(slots=True)
class LoraSettings:
    """Low-rank adapters in the LLM; rank 0 = the LLM stays as it is."""

    rank: int = 16
    alpha: int = 32
    modules: list[str] = field(default_factory=lambda: list(LLAMA_LINEARS))
    bits: int = 16  # of the frozen weights under the adapters while training; 4: NF4 (QLoRA), needs the extra `qlora`

    def __post_init__(self) -> None:
        if self.bits not in (4, 16):
            raise BadSettings("lora: bits must be 16 or 4.")
        if self.rank < 0 or (self.rank and not self.modules):
            raise BadSettings("lora: rank must be 0 or more, and modules must name the layers that get adapters.")


@dataclass(slots=True)
class PhaseSettings:
    """One of the two phases. Phase 1 trains the projector alone (lora.rank 0), phase 2 projector and LLM: adapters, or `full`."""

    take: dict[str, int]  # describe | converse | invoke | choose → how many, drawn by the seed; 0 = all. Empty: no such phase
    longest: int = 0  # supervised tokens of one conversation; longer ones are left out. 0 = any
    subset: str = ""  # "paper": of books, single-panel captions over 50 tokens, and tool use alone (`instruct.subsets`)
    epochs: float = 1.0
    lr: float = 2e-4  # of the adapters
    projector_lr: float = 2e-3
    row_tokens: int = 1024  # length of a packed row
    rows_per_step: int = 1  # rows whose gradients are summed before a step
    warmup: float = 0.03  # share of the steps
    weight_decay: float = 0.0
    clip: float = 1.0  # largest norm of the gradient
    lora: LoraSettings = field(default_factory=lambda: LoraSettings(rank=0))
    full: bool = False  # every weight of the LLM is trained, without adapters, as in the paper

    def __post_init__(self) -> None:
        self.lora = nested(LoraSettings, self.lora, "lora")
        if self.epochs <= 0 or self.row_tokens < 1 or self.rows_per_step < 1:
            raise BadSettings("a phase needs epochs > 0, row_tokens >= 1 and rows_per_step >= 1.")
        if self.subset not in ("", "paper"):
            raise BadSettings(f"subset {self.subset!r} is unknown; leave it empty, or choose paper.")
        if self.full and self.lora.bits != 16:
            raise BadSettings("a phase with full: true trains every weight; leave lora.bits at 16.")
        if unknown := set(self.take) - {"describe", "converse", "invoke", "choose"}:
            raise BadSettings(f"a phase takes describe, converse, invoke or choose, not {', '.join(sorted(unknown))}.")


@dataclass(slots=True)
class TrainSettings:
    """A whole training of PathAsst."""

    model: ModelSettings = field(default_factory=ModelSettings)
    start: str = ""  # id or folder of an adapter to go on from; empty: untrained. Rank and modules of phase 2 must be its own
    phase1: PhaseSettings = field(default_factory=lambda: PhaseSettings(take={"describe": 0}))
    phase2: PhaseSettings = field(
        default_factory=lambda: PhaseSettings(take={"describe": 0, "converse": 0, "invoke": 0}, lora=LoraSettings())
    )
    whiten: bool = True  # train the projector on whitened features, and fold that into it at the end (`whiten.py`)
    first_guess: bool = True  # with `whiten`: start a linear projector from least squares to the words of the descriptions
    max_length: int = 2048  # tokens of one conversation; longer ones lose turns from the end
    tool_lists: int = 12  # how many different tool lists conversations are regrouped under (0: each keeps its own)
    precision: str = "auto"  # of the LLM and its products: bf16 | fp32 | auto (bf16 where hardware multiplies it); trained: fp32
    device: str = "cpu"
    seed: int = 0
    save_every: int = 25  # steps between checkpoints
    validate_every: int = 50  # steps between measurements on the val split
    validation_samples: int = 128

    def __post_init__(self) -> None:
        self.model = nested(ModelSettings, self.model, "model")
        self.phase1 = nested(PhaseSettings, self.phase1, "phase1")
        self.phase2 = nested(PhaseSettings, self.phase2, "phase2")
        if self.phase1.full:
            raise BadSettings("phase 1 trains the projector alone; set full: true in phase 2.")
        if self.precision not in ("auto", "bf16", "fp32"):
            raise BadSettings(f"precision {self.precision!r} is unknown; choose auto, bf16 or fp32.")

    def plain(self) -> dict[str, Any]:
        """All settings as plain values, for the record."""
        return asdict(self)


def nested(kind: type[S], value: Any, name: str) -> S:
    """A sub-mapping of a recipe as its settings object. Raises BadSettings that names unknown settings."""
    if isinstance(value, kind):
        return value
    known = {f.name for f in fields(kind)}  # type: ignore[arg-type]
    if not isinstance(value, dict) or set(value) - known:
        unknown = ", ".join(sorted(set(value) - known)) if isinstance(value, dict) else repr(value)
        raise BadSettings(f"{name}: unknown settings {unknown}; known: {', '.join(sorted(known))}.")
    return kind(**value)
