"""What a training would take, before it starts: parameters, memory a device, tokens, time. Knows settings and datasets.

Memory is counted, not measured: weights, gradients, AdamW's two moments and a bound on activations with checkpointing, shared out
by FSDP; before they are shared out, every device holds the whole LLM, and that may be the most. Time
is 4 FLOPs a parameter and token (forward, and backward through frozen weights; 6 when every weight is trained) over the
device's assumed rate, so it is an order of magnitude.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pathasst import dataset
from pathasst.core.records import IMAGE, Conversation
from pathasst.mllm.settings import MllmTraining, PhaseSettings

CHARACTERS_A_TOKEN = 3.6  # of English prose in byte-level BPE vocabularies of 32 to 150 thousand
GIB = 2**30


@dataclass(frozen=True, slots=True)
class LlmShape:
    """The sizes of a decoder that memory and time hang on."""

    name: str
    hidden: int
    layers: int
    intermediate: int
    kv: int  # width of keys
    vocabulary: int
    tied: bool = False  # whether the output layer is the embedding

    @property
    def parameters(self) -> int:
        """All weights but the norms, which are a thousandth of a percent."""
        layer = 2 * self.hidden**2 + 2 * self.hidden * self.kv + 3 * self.hidden * self.intermediate
        return self.embeddings + self.layers * layer

    @property
    def embeddings(self) -> int:
        """Weights outside of the layers: embedding and output."""
        return self.vocabulary * self.hidden * (1 if self.tied else 2)

    def adapter_parameters(self, rank: int, modules: Sequence[str]) -> int:
        """Parameters of low-rank adapters on the named linear layers."""
        h, m, k = self.hidden, self.intermediate, self.kv
        sizes = {"q_proj": 2 * h, "o_proj": 2 * h, "k_proj": h + k, "v_proj": h + k}
        sizes |= {"gate_proj": h + m, "up_proj": h + m, "down_proj": h + m}
        return rank * self.layers * sum(sizes[n] for n in modules)


SHAPES = {
    "smollm2-135m": LlmShape("smollm2-135m", 576, 30, 1536, 192, 49152, tied=True),
    "qwen3-8b": LlmShape("qwen3-8b", 4096, 36, 12288, 1024, 151936),
    "vicuna-13b": LlmShape("vicuna-13b", 5120, 40, 13824, 5120, 32000),
}


@dataclass(frozen=True, slots=True)
class Estimate:
    """Of one phase."""

    trained: int  # parameters
    tokens: int  # that the LLM reads in all epochs
    memory: float  # GiB a device
    hours: float


def shape_of(llm: str) -> LlmShape:
    """A known LLM, or the one whose config.json lies in the folder `llm`. Raises BadSettings for another."""
    import json

    from pathasst.core.errors import BadSettings

    if llm in SHAPES:
        return SHAPES[llm]
    path = Path(llm) / "config.json"
    if not path.is_file():
        raise BadSettings(f"the size of {llm!r} is not known; give the folder of a Hugging Face model as llm.")
    c = json.loads(path.read_text(encoding="utf-8"))
    head = c.get("head_dim") or c["hidden_size"] // c["num_attention_heads"]
    kv = c.get("num_key_value_heads", c["num_attention_heads"]) * head
    tied = bool(c.get("tie_word_embeddings"))
    return LlmShape(llm, c["hidden_size"], c["num_hidden_layers"], c["intermediate_size"], kv, c["vocab_size"], tied)


def phase_estimate(
    shape: LlmShape, phase: PhaseSettings, tokens: int, *, vision_width: int, devices: int, teraflops: float
) -> Estimate:
    """One phase on `devices`; if it trains any of the LLM, they share the layers' weights and states evenly (FSDP)."""
    adapters = shape.adapter_parameters(phase.lora.rank, phase.lora.modules) if phase.lora.rank and not phase.full else 0
    projector = vision_width * shape.hidden + shape.hidden
    trained = projector + (shape.parameters if phase.full else adapters)
    states = 4 + 4 + 8  # bytes of a trained weight: itself in float32, its gradient, two moments
    four_bits = bool(adapters) and phase.lora.bits == 4
    weight = states if phase.full else 0.53 if four_bits else 2  # NF4 or bf16
    layers = (shape.parameters - shape.embeddings) * weight + adapters * states
    whole = shape.embeddings * (2 if four_bits else weight) + projector * states
    shared = devices if phase.full or (adapters and not four_bits) else 1
    row = phase.row_tokens * (shape.layers * shape.hidden * 2 + 34 * shape.hidden * 2 + shape.vocabulary * 6)
    before = shape.parameters * (4 if phase.full else 2) if shared > 1 else 0.0
    work = 6 if phase.full else 4
    hours = work * shape.parameters * tokens / (teraflops * 1e12 * devices) / 3600
    return Estimate(trained, tokens, max(layers / shared + whole + row, before) / GIB, hours)


def estimate(
    settings: MllmTraining,
    conversations: Sequence[Path | str],
    *,
    devices: int = 1,
    teraflops: float = 0.15,
    image_tokens: int = 49,
    vision_width: int = 192,
) -> str:
    """The plan of both phases as text. `teraflops`: what one device reaches in such a training (two busy CPU cores: about 0.15;
    A100: about 150). Raises BadDataset or BadSettings."""
    shape = shape_of(settings.model.llm)
    lengths: dict[str, list[int]] = {}
    for folder in conversations:
        for c in dataset.read(folder, Conversation, columns=["conversation_id", "kind", "turns", "tools", "split"]):
            if c.split == "train":
                words = sum(len(t.content) + 60 * len(t.tool_calls) for t in c.turns) / CHARACTERS_A_TOKEN
                marks = sum(t.content.count(IMAGE) for t in c.turns)
                lengths.setdefault(c.kind, []).append(int(words) + marks * image_tokens + 6 * len(c.turns) + 20)
    lines = [f"{shape.name}: {shape.parameters / 1e6:,.0f} M parameters, {devices} device(s) at {teraflops:g} TFLOP/s each"]
    for number, phase in enumerate((settings.phase1, settings.phase2), start=1):
        tokens = 0
        for kind, most in phase.take.items():
            known = lengths.get(kind, [])
            count = min(most or len(known), len(known))
            tokens += int(count * sum(known) / max(1, len(known)) * phase.epochs)
        made = phase_estimate(shape, phase, tokens, vision_width=vision_width, devices=devices, teraflops=teraflops)
        time = f"about {made.hours * 60:,.0f} min" if made.hours > 1 / 60 else "under a minute"
        lines.append(
            f"phase {number}: {made.trained / 1e6:,.1f} M trained, about {made.tokens / 1e3:,.1f} thousand tokens, "
            f"{made.memory:.1f} GiB a device, {time}"
        )
    return "\n".join(lines)
