"""The settings that every training has, under one name with one meaning. Knows no torch.

A room's settings extend `TrainingSettings` and give other defaults through the same types:

    class DetectorTraining(TrainingSettings):
        room: ClassVar[str] = "detector"
        steps: Steps = 2400
        lr: LearningRate = 1e-3
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pathasst.core.settings import Field, Settings

Steps = Annotated[int, Field(ge=0, description="Optimiser steps of the whole training; 0 trains nothing.")]
Minutes = Annotated[
    float,
    Field(ge=0, description="Stop after so many minutes of wall clock; the learning rate falls to zero by then. 0: no limit."),
]
BatchSize = Annotated[
    int, Field(ge=1, description="Examples of one optimiser step: of all processes and accumulated parts together.")
]
Accumulate = Annotated[
    int, Field(ge=1, description="Parts that a process's share of a step is computed in, one after another, to save memory.")
]
LearningRate = Annotated[float, Field(gt=0, description="Highest learning rate, reached after the warm-up.")]
Share = Annotated[float, Field(ge=0, le=1)]
Warmup = Annotated[float, Field(ge=0, lt=1, description="Share of the training in which the learning rate rises from zero.")]
Hold = Annotated[
    float, Field(ge=0, lt=1, description="Share of the training after which the learning rate begins to fall (half a cosine).")
]
WeightDecay = Annotated[float, Field(ge=0, description="Decoupled weight decay of AdamW.")]
ClipNorm = Annotated[float, Field(ge=0, description="Largest norm of the gradient of all weights together. 0: no limit.")]
Ema = Annotated[
    float,
    Field(ge=0, lt=1, description="Decay of the moving average of the weights, which is then what is kept. 0: no average."),
]
Precision = Annotated[
    Literal["auto", "bf16", "fp16", "fp32"],
    Field(description="Numbers of the forward pass; weights stay fp32. auto: bf16 where hardware multiplies it, else fp32."),
]
Optimizer = Annotated[
    Literal["adamw", "adamw-fused", "adamw-8bit", "paged-adamw-8bit"],
    Field(
        description="adamw-fused: the step as one kernel, quicker on a GPU, other rounding. adamw-8bit: moments in eight bits "
        "(bitsandbytes, the extra `qlora`); paged: they move to the host's memory when the GPU's is short."
    ),
]
AsyncSave = Annotated[
    bool,
    Field(description="Write checkpoints while the training goes on; takes the host's memory for a copy of what is written."),
]
Keep = Annotated[int, Field(ge=0, description="Checkpoints that stay after the training; the newest stay.")]
Compile = Annotated[
    bool, Field(description="torch.compile the network: its first steps take minutes. For shapes that stay the same.")
]
Every = Annotated[int, Field(ge=0)]

FREE = frozenset(
    ["steps", "minutes", "accumulate", "save_every", "async_save", "keep", "evaluate_every", "trackers", "device", "workers"]
)
"""Settings that may change when an interrupted training goes on: how long it trains, what it writes, what it runs on."""


class TrainingSettings(Settings):
    """What every training can set, in YAML, by `--set name=value` and from Python."""

    renamed: ClassVar[dict[str, str]] = {
        "clip": "clip_norm",
        "bf16": "precision (auto, bf16 or fp32)",
        "evaluations": "evaluate_every (steps)",
        "validate_every": "evaluate_every (steps)",
        "rows_per_step": "batch",
        "fused": "optimizer (adamw-fused)",
    }

    free: ClassVar[frozenset[str]] = FREE
    """As `FREE`, with a room's own."""

    steps: Steps = 1000
    minutes: Minutes = 0.0
    batch: BatchSize = 32
    accumulate: Accumulate = 1
    lr: LearningRate = 1e-3
    warmup: Warmup = 0.05
    hold: Hold = 0.0
    weight_decay: WeightDecay = 0.01
    clip_norm: ClipNorm = 1.0
    ema: Ema = 0.0
    optimizer: Optimizer = "adamw"
    compile: Compile = False
    precision: Precision = "auto"
    seed: int = Field(default=0, ge=0, description="All random choices follow from it.")
    save_every: Every = Field(
        default=100, ge=1, description="Steps between checkpoints, from which an interrupted training resumes."
    )
    async_save: AsyncSave = False
    keep: Keep = 0
    evaluate_every: Every = Field(
        default=200, ge=0, description="Steps between evaluations on the split val. 0: only at the end."
    )
    trackers: tuple[Literal["tensorboard", "wandb", "mlflow"], ...] = Field(
        default=(), description="Where the log goes besides the folder of the run."
    )
    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="auto: the GPU if there is one.")
    workers: int = Field(default=1, ge=0, description="Further processes that prepare the next batches. 0: none.")
