"""Which text LLM to ask, and how: the settings, and presets for common servers. Knows no room.

```python
LLMSettings.of("ollama", model="qwen2.5:7b")       # a preset with another model
LLMSettings(base_url="http://gpu7:8000/v1", model="Qwen/Qwen3-8B", price_in=0, price_out=0)
```
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any

from pathasst.core.errors import BadSettings

SCHEMA_MODES = ("json_schema", "json_object", "prompt")


@dataclass(frozen=True, slots=True)
class LLMSettings:
    """One model behind an OpenAI-compatible server, or a GGUF file in this process (`local`)."""

    base_url: str = ""  # up to and with /v1; empty with `local`
    model: str = "default"
    local: str = ""  # a GGUF file, or an id of `pathasst models list`, run in this process through llama.cpp
    threads: int = 0  # of a local model: 0 = all cores but one, or $PATHASST_THREADS, or $OMP_NUM_THREADS
    key_env: str = "OPENAI_API_KEY"  # the environment variable that holds the key; it is never written anywhere
    temperature: float = 0.0
    max_tokens: int = 1024
    seed: int | None = None
    extra: dict[str, Any] = field(default_factory=dict)  # further fields of the request's body
    schema_mode: str = "json_schema"  # how JSON is asked for; the client steps down to the next when the server refuses
    timeout: float = 120.0  # seconds for one answer
    attempts: int = 5  # tries of one request: refused connections, 408, 409, 425, 429, 5xx, cut answers
    repairs: int = 2  # further questions when an answer breaks its schema
    backoff: float = 0.5  # seconds before the second try; doubles, or what the server's Retry-After says
    max_wait: float = 60.0  # seconds between two tries, at most
    parallel: int = 4  # questions under way at a time in `many`
    price_in: float = 0.0  # money per million tokens read
    price_out: float = 0.0  # and written
    max_cost: float | None = None  # stop before more than this is spent, over all runs that share the ledger

    def __post_init__(self) -> None:
        if bool(self.base_url) == bool(self.local):
            raise BadSettings("an LLM needs a base_url (http://…/v1) or a local GGUF model, and not both.")
        if self.base_url and not self.base_url.startswith(("http://", "https://")):
            raise BadSettings(f"base_url {self.base_url!r} must begin with http:// or https://.")
        if self.schema_mode not in SCHEMA_MODES:
            raise BadSettings(f"schema_mode {self.schema_mode!r} is unknown; choose {', '.join(SCHEMA_MODES)}.")
        if self.attempts < 1 or self.parallel < 1 or self.repairs < 0 or self.timeout <= 0:
            raise BadSettings("an LLM needs attempts and parallel of 1 or more, repairs of 0 or more and a timeout above 0.")
        if self.max_cost is not None and not (self.price_in or self.price_out):
            raise BadSettings("max_cost needs the prices: set price_in and price_out (money per million tokens).")

    @classmethod
    def of(cls, preset: str, **changes: Any) -> LLMSettings:
        """A preset with changes. Raises BadSettings for an unknown preset or setting."""
        if preset not in PRESETS:
            raise BadSettings(f"no LLM preset is called {preset!r}; choose {', '.join(PRESETS)}.")
        if unknown := set(changes) - {f.name for f in fields(cls)}:
            raise BadSettings(f"unknown LLM settings {', '.join(sorted(unknown))}.")
        return replace(PRESETS[preset], **changes)

    def asked(self) -> dict[str, Any]:
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
