"""The settings of curation: one dataclass for the stage, read from `recipes/<recipe>/curate.yaml`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from pathasst.core.errors import BadSettings
from pathasst.curate.align import AlignSettings
from pathasst.curate.quality import QualitySettings

PASSING = ("base_url", "key_env", "timeout", "attempts", "backoff", "max_wait", "parallel", "price_in", "price_out", "max_cost")
"""Settings of a language model that change no answer: with a larger budget a run goes on from its finished shards."""


@dataclass(frozen=True)
class CurateSettings:
    """What is kept, by which models. Lists of a YAML file become tuples, sections become their dataclasses."""

    select: str = "select-embedded"  # registry id, folder or file of a classifier; "" keeps every picture
    select_threshold: float = 0.0  # of the probability; 0: the model's own
    rules: bool = True  # beside the classifier: colourless pictures and charts with axes are not pathology
    panels: str = "xycut"  # xycut; registry id or folder of a detector trained here; or an ONNX file
    letters: bool = True  # read printed letters by OCR
    min_panel_side: int = 48  # px; a smaller panel is not cut out
    captions: str = "grammar"  # grammar, or llm with the settings below
    llm: dict[str, Any] = field(default_factory=dict)  # of pathasst.llm.LLMSettings: preset or base_url, model, …
    prompts: str = ""  # folder of prompts that replace the packaged ones
    refine: bool = True
    similarity: str = "auto"  # auto: PathCLIP when its weights are here; none; or a model's id or folder
    align: AlignSettings = field(default_factory=AlignSettings)
    quality: QualitySettings = field(default_factory=QualitySettings)
    val: float = 0.05  # shares of the articles that go to these splits
    test: float = 0.05
    leakage: tuple[str, ...] = ()  # evaluation sets: folders, CSV files, datasets
    exclude_leaks: bool = True  # leave leaking pairs out; False: only note them
    leak_cosine: float = 0.98  # of PathCLIP embeddings, from which on a picture counts as a repeat; 0: not looked at
    exclude_alike: bool = False  # leave out what only the embedding finds; False: only note it, as tissues do look alike

    def __post_init__(self) -> None:
        for name, kind in (("align", AlignSettings), ("quality", QualitySettings)):
            value = getattr(self, name)
            if isinstance(value, Mapping):
                try:
                    object.__setattr__(self, name, kind(**value))
                except TypeError as error:
                    raise BadSettings(f"curate: section {name}: {error}") from error
        object.__setattr__(self, "leakage", tuple(self.leakage))
        if self.captions not in ("grammar", "llm"):
            raise BadSettings(f"curate: captions {self.captions!r} is unknown; choose grammar or llm.")
        if not (self.val >= 0 and self.test >= 0 and self.val + self.test < 1):
            raise BadSettings("curate: val and test are shares of the articles and must leave some for training.")

    def plain(self) -> dict[str, Any]:
        """The settings as plain values, for the manifest; of the language model's those that decide its answers."""
        llm = {k: v for k, v in self.llm.items() if k not in PASSING}
        return {**asdict(self), "leakage": list(self.leakage), "llm": llm}
