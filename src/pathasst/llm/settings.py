"""Which text LLM to ask, and how: the settings, and presets for common servers. Knows no room.

```python
LLMSettings.preset("ollama", model="qwen2.5:7b")       # a preset with another model
LLMSettings.of({"preset": "ollama", "model": "qwen2.5:7b"})       # the same from a recipe
LLMSettings(base_url="http://gpu7:8000/v1", model="Qwen/Qwen3-8B", price_in=0, price_out=0)
```
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, Self

from pydantic import model_validator

from pathasst.core.errors import BadSettings
from pathasst.core.settings import Field, Settings, override

SchemaMode = Literal["json_schema", "json_object", "prompt"]
SCHEMA_MODES: tuple[SchemaMode, ...] = ("json_schema", "json_object", "prompt")


class LLMSettings(Settings):
    """One model behind an OpenAI-compatible server, or a GGUF file in this process (`local`)."""

    base_url: str = Field(
        default="", pattern=r"^(https?://.*)?$", description="http:// or https:// address up to and with /v1; empty with `local`."
    )
    model: str = Field(default="default", description="Name of the model, as the server knows it.")
    local: str = Field(default="", description="GGUF file, or id of `pathasst models list`, run in this process by llama.cpp.")
    threads: int = Field(
        default=0, ge=0, description="Of a local model. 0: all cores but one, or $PATHASST_THREADS, or $OMP_NUM_THREADS."
    )
    key_env: str = Field(default="OPENAI_API_KEY", description="Environment variable that holds the key, which is never written.")
    temperature: float = Field(default=0.0, ge=0)
    max_tokens: int = Field(default=1024, ge=1, description="Tokens of an answer, at most.")
    seed: int | None = None
    extra: dict[str, Any] = Field(default={}, description="Further fields of the request's body.")
    schema_mode: SchemaMode = Field(
        default="json_schema", description="How JSON is asked for; the client steps down to the next when the server refuses."
    )
    timeout: float = Field(default=120.0, gt=0, description="Seconds for one answer.")
    attempts: int = Field(
        default=5, ge=1, description="Tries of one request: refused connections, 408, 409, 425, 429, 5xx, cut answers."
    )
    repairs: int = Field(default=2, ge=0, description="Further questions when an answer breaks its schema.")
    backoff: float = Field(
        default=0.5, ge=0, description="Seconds before the second try; doubles, or what the server's Retry-After says."
    )
    max_wait: float = Field(default=60.0, ge=0, description="Seconds between two tries, at most.")
    parallel: int = Field(default=4, ge=1, description="Questions under way at a time in `many`.")
    price_in: float = Field(default=0.0, ge=0, description="Money per million tokens read.")
    price_out: float = Field(default=0.0, ge=0, description="Money per million tokens written.")
    max_cost: float | None = Field(
        default=None, description="Stop before more than this is spent, over all runs that share the ledger."
    )

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if bool(self.base_url) == bool(self.local):
            raise ValueError("an LLM needs a base_url (http://…/v1) or a local GGUF model, and not both")
        if self.max_cost is not None and not (self.price_in or self.price_out):
            raise ValueError("max_cost needs the prices: set price_in and price_out (money per million tokens)")
        return self

    @classmethod
    def of(cls, values: Mapping[str, Any], overrides: Iterable[str] = (), *, where: str = "llm", **changes: Any) -> Self:
        """Settings from plain values, as a recipe has them; `preset` among them names the ones to start from."""
        merged = override(values, overrides)
        if name := merged.pop("preset", ""):
            if name not in PRESETS:
                raise BadSettings(f"no LLM preset is called {name!r}; choose {', '.join(PRESETS)}.")
            merged = PRESETS[name].model_dump(exclude_unset=True) | merged
        return super().of(merged, where=where, **changes)

    @classmethod
    def preset(cls, name: str, **changes: Any) -> Self:
        """A preset with changes. Raises BadSettings for an unknown preset or setting."""
        return cls.of({"preset": name}, **changes)

    def answer_fields(self) -> dict[str, Any]:
        """What, besides the messages, decides an answer: part of the cache's key."""
        return {
            "model": self.local or self.model,
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
            "seed": self.seed,
            "extra": self.extra,
        }


PRESETS: dict[str, LLMSettings] = {
    "openai": LLMSettings(base_url="https://api.openai.com/v1", model="gpt-4.1-mini", price_in=0.4, price_out=1.6),
    "vllm": LLMSettings(base_url="http://127.0.0.1:8000/v1"),
    "ollama": LLMSettings(base_url="http://127.0.0.1:11434/v1", model="qwen2.5:7b"),
    "llamacpp": LLMSettings(base_url="http://127.0.0.1:8080/v1"),
    # the paper's own LLaMA-2-7B for captions, served by FastChat or vLLM: it was not trained on schemas
    "pathasst-caption": LLMSettings(base_url="http://127.0.0.1:8000/v1", model="pathasst_caption_tool", schema_mode="prompt"),
    "smollm2": LLMSettings(local="smollm2-135m", model="smollm2-135m", max_tokens=256),
}
"""Servers by name. Prices are those of the maker at the time of writing: set your own."""
