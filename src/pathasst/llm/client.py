"""The one client for every text LLM: text or JSON that keeps a schema, cached, retried, counted. Knows no room's prompts.

```python
client = connect(LLMSettings.preset("vllm", model="Qwen/Qwen3-8B"), folder=Path("out/llm"))
client.text("Name three stains.")
client.json("Split this caption: …", Split)          # Split: a pydantic model
client.many(prompts, Split)                          # in parallel, in order; a bad answer is an exception in its place
```
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from pathasst.core.errors import BadInput
from pathasst.llm.cache import Cache, key_of
from pathasst.llm.cost import Ledger
from pathasst.llm.messages import LLMMessage, Reply, as_messages, json_in, rough_tokens
from pathasst.llm.settings import SCHEMA_MODES, LLMSettings
from pathasst.llm.transport import Refused, Transport

M = TypeVar("M", bound=BaseModel)
Prompt = str | list[LLMMessage]
REPAIR = "That answer cannot be used: {fault}. Answer again, with nothing but JSON that fits the schema."


class Client:
    """Asks one model. Safe to use from several threads; make one per process."""

    def __init__(self, settings: LLMSettings, folder: Path, base_url: str = "", engine: Any = None) -> None:
        self.settings = settings
        self.cache = Cache(folder / "answers")
        self.ledger = Ledger(folder / "ledger.jsonl", settings.max_cost)
        self.transport = Transport(settings, base_url or settings.base_url)
        self.schema_mode = settings.schema_mode
        self._engine = engine  # keeps an in-process server alive

    def ask(self, prompt: Prompt, *, system: str = "", schema: dict[str, Any] | None = None, variant: int = 0) -> Reply:
        """One answer, from the cache or the server.

        Raises Unreachable after the allowed tries, OverBudget before the budget would be passed, BadInput when the answer was cut
        at `max_tokens` or withheld by the server's filter.
        """
        messages = as_messages(prompt, system)
        key = key_of(messages, self.settings.answer_fields(), schema, variant)
        reply = self.cache.get(key)
        if reply is None:
            reply = self._paid(messages, schema)
            self.cache.put(key, reply)
        if reply.finish == "length":
            raise BadInput(f"the answer was cut at {self.settings.max_tokens} tokens; raise max_tokens.")
        if reply.finish == "content_filter":
            raise BadInput("the server's filter withheld the answer.")
        return reply

    def text(self, prompt: Prompt, *, system: str = "", variant: int = 0) -> str:
        """The text of one answer. Raises as `ask`."""
        return self.ask(prompt, system=system, variant=variant).text.strip()

    def json(self, prompt: Prompt, model: type[M], *, system: str = "", variant: int = 0) -> M:
        """An answer that fits a pydantic model; a misfit is shown to the LLM, up to `repairs` times.

        Raises BadInput when none fits, otherwise as `ask`.
        """
        messages, schema = as_messages(prompt, system), model.model_json_schema()
        fault = ""
        for _ in range(self.settings.repairs + 1):
            reply = self.ask(messages, schema=schema, variant=variant)
            try:
                return model.model_validate(json_in(reply.text))
            except (ValidationError, BadInput) as error:
                fault = _fault(error)
                messages = [*messages, LLMMessage("assistant", reply.text), LLMMessage("user", REPAIR.format(fault=fault))]
        raise BadInput(f"no answer fitted {model.__name__}: {fault}")

    def many(self, prompts: Sequence[Prompt], model: type[M], *, system: str = "") -> list[M | BadInput]:
        """JSON answers to many prompts, `parallel` at a time, in the prompts' order.

        A BadInput stands in the place of an answer that could not be had. Unreachable and OverBudget end the batch; what was
        answered by then is in the cache.
        """

        def one(prompt: Prompt) -> M | BadInput:
            try:
                return self.json(prompt, model, system=system)
            except BadInput as error:
                return error

        pool = ThreadPoolExecutor(self.settings.parallel)
        try:
            return list(pool.map(one, prompts))
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def close(self) -> None:
        """Close the connections; an in-process model is freed."""
        self.transport.close()
        self._engine = None

    def _paid(self, messages: list[LLMMessage], schema: dict[str, Any] | None) -> Reply:
        estimate = self._cost(sum(rough_tokens(m.content) for m in messages), self.settings.max_tokens)
        self.ledger.reserve(estimate)
        try:
            body, tries = self._post(messages, schema)
            reply = replace(self._reply(body, messages), tries=tries)
            self.ledger.add(reply)
        finally:
            self.ledger.release(estimate)
        return reply

    def _post(self, messages: list[LLMMessage], schema: dict[str, Any] | None) -> tuple[dict[str, Any], int]:
        """Send; a server that does not know this way of asking for JSON (400, 404, 422) is asked in the next simpler way."""
        while True:
            mode = self.schema_mode
            try:
                return self.transport.post(self._body(messages, schema, mode))
            except Refused as error:
                simpler = SCHEMA_MODES[SCHEMA_MODES.index(mode) + 1 :]
                if schema is None or error.status not in (400, 404, 422) or not simpler:
                    raise
                self.schema_mode = simpler[0]

    def _body(self, messages: list[LLMMessage], schema: dict[str, Any] | None, mode: str) -> dict[str, Any]:
        s = self.settings
        turns = [{"role": m.role, "content": m.content} for m in messages]
        body: dict[str, Any] = {"model": s.model, "messages": turns, "temperature": s.temperature, "max_tokens": s.max_tokens}
        if s.seed is not None:
            body["seed"] = s.seed
        if schema is not None:
            if mode == "json_schema":
                body["response_format"] = {"type": mode, "json_schema": {"name": "answer", "strict": True, "schema": schema}}
            else:
                turns[-1]["content"] += f"\n\nAnswer with nothing but JSON that fits this schema:\n{json.dumps(schema)}"
                if mode == "json_object":
                    body["response_format"] = {"type": mode}
        return {**body, **s.extra}

    def _reply(self, body: dict[str, Any], messages: list[LLMMessage]) -> Reply:
        choice, usage = body["choices"][0], body.get("usage") or {}
        text = choice["message"]["content"]  # without thoughts (see `transport`)
        tokens_in = int(usage.get("prompt_tokens") or sum(rough_tokens(m.content) for m in messages))
        tokens_out = int(usage.get("completion_tokens") or rough_tokens(text))
        return Reply(
            text=text,
            model=self.settings.model,
            tokens_in=tokens_in,
            tokens_out=tokens_out,
            cost=self._cost(tokens_in, tokens_out),
            finish=choice.get("finish_reason") or "stop",
        )

    def _cost(self, tokens_in: int, tokens_out: int) -> float:
        return (tokens_in * self.settings.price_in + tokens_out * self.settings.price_out) / 1e6


def connect(settings: LLMSettings, folder: Path | None = None) -> Client:
    """A client; `folder` holds its answers and ledger (by default the user's cache). A `local` model is started here.

    Raises MissingWeights or MissingPackage for a `local` model that cannot run.
    """
    from pathasst.core import weights

    folder = folder or weights.cache_dir() / "llm"
    if not settings.local:
        return Client(settings, folder)
    from pathasst.llm.local import start

    engine, base_url = start(settings.local, parallel=settings.parallel, threads=settings.threads)
    return Client(settings, folder, base_url, engine)


def _fault(error: ValidationError | BadInput) -> str:
    if isinstance(error, BadInput):
        return str(error)
    return "; ".join(f"{'.'.join(map(str, e['loc'])) or 'answer'}: {e['msg']}" for e in error.errors()[:5])
