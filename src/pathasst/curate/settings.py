"""The settings of curation. Knows the steps' own settings."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import model_validator

from pathasst.core.settings import Field, Settings
from pathasst.curate.align import AlignSettings
from pathasst.curate.quality import QualitySettings

PASSING = ("base_url", "key_env", "timeout", "attempts", "backoff", "max_wait", "parallel", "price_in", "price_out", "max_cost")
"""Settings of a language model that change no answer: with a larger budget, finished shards are kept."""


class CurateSettings(Settings):
    """Settings of `pathasst curate`: what is kept, by which models (paper, PathCap steps 1 to 3)."""

    room: ClassVar[str] = "curate"

    select: str = Field("select-embedded", description="classifier: registry id, folder or file; empty: keep every picture")
    select_threshold: float = Field(0.0, ge=0, le=1, description="least probability of pathology; 0: the model's own")
    rules: bool = Field(True, description="also leave out colourless pictures and charts with axes")
    panels: str = Field("xycut", description="xycut, registry id or folder of a detector trained here, or an ONNX file")
    letters: bool = Field(True, description="read printed letters by OCR")
    min_panel_side: int = Field(48, ge=1, description="smallest side of a panel that is cut out, in px")
    captions: Literal["grammar", "llm"] = Field("grammar", description="who splits captions; llm: with the settings below")
    llm: dict[str, Any] = Field(default_factory=dict, description="language model: preset or base_url, model, …")
    prompts: str = Field("", description="folder of prompts that replace the packaged ones")
    refine: bool = Field(True, description="refine captions (paper, PathCap step 3)")
    similarity: str = Field("auto", description="auto: PathCLIP when its weights are here; none; or a model's id or folder")
    align: AlignSettings = AlignSettings()
    quality: QualitySettings = QualitySettings()
    val: float = Field(0.05, ge=0, lt=1, description="share of the articles in the val split")
    test: float = Field(0.05, ge=0, lt=1, description="share of the articles in the test split")
    leakage: tuple[str, ...] = Field((), description="evaluation sets to keep out: folders, CSV files, datasets")
    exclude_leaks: bool = Field(True, description="leave leaking pairs out; false: only note them")
    leak_cosine: float = Field(0.98, ge=0, le=1, description="cosine from which on a picture counts as a repeat; 0: not compared")
    exclude_alike: bool = Field(False, description="leave out what only the embedding finds; false: only note it")

    @model_validator(mode="after")
    def _some_train(self) -> CurateSettings:
        if self.val + self.test >= 1:
            raise ValueError("val and test are shares of the articles and must leave some for training")
        return self

    def plain(self) -> dict[str, Any]:
        """The settings as plain values, for the manifest; of the language model's those that decide its answers."""
        return {**super().plain(), "llm": {k: v for k, v in self.llm.items() if k not in PASSING}}
