"""Settings of `pathasst train mllm`, read from `recipes/<recipe>/mllm.yaml`. Knows no network and no data."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import model_validator

from pathasst.core.settings import Field, Settings
from pathasst.training.settings import (
    FREE,
    AsyncSave,
    BatchSize,
    ClipNorm,
    Compile,
    Every,
    Keep,
    LearningRate,
    Minutes,
    Optimizer,
    TrainingSettings,
    Warmup,
    WeightDecay,
)

LLAMA_LINEARS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
COMPUTED = frozenset(["gradient_checkpointing", "attention", "compile"])
"""Settings that change how numbers are computed, and only their last bits."""
Kind = Literal["describe", "converse", "invoke", "choose"]


class ModelSettings(Settings):
    """Which parts PathAsst is put together from."""

    vision: str = Field(default="pathclip-embedded", description="Id of a PathCLIP, or a folder with a CLIPVisionModel.")
    llm: str = Field(default="smollm2-135m", description="Id of a language model, or its folder (safetensors or one GGUF file).")
    projector: Literal["linear", "mlp2x_gelu", "pixel-shuffle"] = Field(
        default="linear",
        description="linear: the paper's single FC layer. pixel-shuffle: four neighbouring patches become one token.",
    )
    tiles: tuple[tuple[int, int], ...] = Field(
        default=(),
        description="Grids of tiles, [rows, columns], that a large picture is cut into besides its whole (AnyRes, LLaVA-NeXT). "
        "Empty: one square.",
    )
    template: str = Field(default="chatml", description="Chat template: chatml, paper, or tokenizer (the LLM's own).")
    vision_feature_layer: int = Field(
        default=-2, description="Layer of the tower whose patch tokens are read, without the class token."
    )

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.tiles and self.projector == "pixel-shuffle":
            raise ValueError("tiles need the projector linear or mlp2x_gelu")
        if any(side < 1 for grid in self.tiles for side in grid):
            raise ValueError("a grid of tiles has at least one row and one column")
        return self


class LoraSettings(Settings):
    """Low-rank adapters in the LLM; rank 0: the LLM stays as it is."""

    rank: int = Field(default=16, ge=0)
    alpha: int = Field(default=32, ge=0, description="The adapters are scaled by alpha / rank.")
    modules: tuple[str, ...] = Field(default=LLAMA_LINEARS, min_length=1, description="Linear layers that get adapters.")
    bits: Literal[4, 16] = Field(
        default=16, description="Of the frozen weights in both phases; 4: NF4 (QLoRA), needs the extra `qlora`."
    )


class PhaseSettings(Settings):
    """One of the two phases. Phase 1 trains the projector alone (lora.rank 0), phase 2 projector and LLM: adapters, or `full`."""

    renamed: ClassVar[dict[str, str]] = {"longest": "max_supervised", "rows_per_step": "batch", "clip": "clip_norm"}

    take: dict[Kind, int] = Field(
        description="Conversations of each kind, drawn by the seed; 0: all. choose: tool conversations up to their last call. "
        "Empty: the phase is left out."
    )
    max_supervised: int = Field(default=0, ge=0, description="Conversations with more supervised tokens are left out. 0: any.")
    subset: Literal["", "paper"] = Field(
        default="", description="paper: books, single-panel captions over 50 tokens, and tool use alone."
    )
    epochs: float = Field(default=1.0, gt=0, description="How often each conversation is read.")
    minutes: Minutes = 0.0
    row_tokens: int = Field(default=1024, ge=1, description="Tokens of a packed row, which is computed at once.")
    batch: BatchSize = Field(default=1, description="Rows of an optimiser step, of all processes together.")
    lr: LearningRate = Field(default=2e-4, description="Highest learning rate of the adapters, or of the LLM.")
    projector_lr: LearningRate = Field(default=2e-3, description="Highest learning rate of the projector.")
    warmup: Warmup = 0.03
    weight_decay: WeightDecay = 0.0
    clip_norm: ClipNorm = 1.0
    lora: LoraSettings = LoraSettings(rank=0)
    full: bool = Field(default=False, description="Train every weight of the LLM, without adapters, as in the paper.")

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.full and self.lora.bits != 16:
            raise ValueError("a phase with full: true trains every weight; leave lora.bits at 16")
        return self


class MllmTraining(Settings):
    """A whole training of PathAsst."""

    room: ClassVar[str] = "mllm"
    renamed: ClassVar[dict[str, str]] = {
        "validate_every": "evaluate_every",
        "validation_samples": "val_samples",
        "fused": "optimizer (adamw-fused)",
    }

    model: ModelSettings = ModelSettings()
    start: str = Field(
        default="", description="Id or folder of an adapter to start from; phase 2 has its rank and modules. Empty: untrained."
    )
    phase1: PhaseSettings = PhaseSettings(take={"describe": 0})
    phase2: PhaseSettings = PhaseSettings(take={"describe": 0, "converse": 0, "invoke": 0}, lora=LoraSettings())
    whiten: bool = Field(
        default=True, description="Train the projector on whitened features; it is written back into their own basis."
    )
    first_guess: bool = Field(
        default=True, description="With `whiten`: start a linear projector from least squares to the words of the descriptions."
    )
    max_length: int = Field(default=2048, ge=1, description="Tokens of one conversation; longer ones lose turns from the end.")
    tool_lists: int = Field(
        default=12, ge=0, description="Different tool lists that conversations are regrouped under. 0: each keeps its own."
    )
    val_samples: int = Field(default=128, ge=0, description="Conversations of the split val that are measured.")
    precision: Literal["auto", "bf16", "fp32"] = Field(
        default="auto", description="Of the LLM; what is trained is fp32. auto: bf16 where hardware multiplies it."
    )
    gradient_checkpointing: bool = Field(
        default=False, description="Compute a layer's activations again in the backward pass: less memory, a third slower."
    )
    attention: Literal["auto", "pieces", "varlen"] = Field(
        default="auto",
        description="Of packed rows. varlen: one call of torch's flash attention for sequences of different lengths, on a GPU in "
        "bfloat16; pieces: one conversation after the other, anywhere. auto: varlen where it runs.",
    )
    compile: Compile = False
    optimizer: Optimizer = "adamw"
    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="auto: the GPU if there is one.")
    seed: int = Field(default=0, ge=0, description="All random choices follow from it.")
    save_every: int = Field(default=25, ge=1, description="Steps between checkpoints.")
    async_save: AsyncSave = False
    keep: Keep = 0
    evaluate_every: Every = Field(default=50, description="Steps between evaluations on the split val. 0: only at the end.")
    trackers: tuple[Literal["tensorboard", "wandb", "mlflow"], ...] = Field(
        default=(), description="Where the log goes besides the folder of the run."
    )

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.phase1.full:
            raise ValueError("phase 1 trains the projector alone; set full: true in phase 2")
        return self

    @property
    def four_bits(self) -> bool:
        """Whether the frozen weights under the adapters are kept in NF4 (QLoRA)."""
        return bool(self.phase2.take) and self.phase2.lora.rank > 0 and self.phase2.lora.bits == 4

    def identity(self) -> dict[str, object]:
        """What an interrupted run must agree in to go on."""
        return {name: value for name, value in self.plain().items() if name not in FREE | COMPUTED}

    def loop(self, phase: PhaseSettings, steps: int, processes: int) -> TrainingSettings:
        """A phase's settings of `training.fit`: each process computes its rows of a step one after another."""
        rows = -(-phase.batch // processes)
        own = ("minutes", "lr", "warmup", "weight_decay", "clip_norm")
        run = ("device", "seed", "optimizer", "save_every", "async_save", "keep", "evaluate_every", "trackers")
        return TrainingSettings(
            steps=steps,
            batch=rows * processes,
            accumulate=rows,
            # Without `full` the LLM is held in its precision, and nothing has to be cast.
            precision=self.precision if phase.full else "fp32",
            workers=0,
            **{name: getattr(phase, name) for name in own},
            **{name: getattr(self, name) for name in run},
        )
