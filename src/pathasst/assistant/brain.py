"""The one word that chooses a brain, and opening it. Each brain's file is imported only when it is chosen."""

from __future__ import annotations

import os
from functools import lru_cache

from pathasst.assistant.brains.settings import EMBEDDED, ROUTER, Brain, BrainSettings
from pathasst.core.errors import BadSettings


def parse_brain(setting: str) -> BrainSettings:
    """The settings behind one word, as `--brain` and `PATHASST_BRAIN` take it.

    `pathasst` or `pathasst:<id or folder>`, with `,router` behind it to let the embedded router choose its tools; `llamacpp` or
    `llamacpp:<id or folder>`; `http://host:8000/v1#model`, with `#model,blind` for a model that takes no pictures and
    `#model,stop=###` for one that writes on after its answer. Raises BadSettings for anything else.
    """
    if setting.startswith(("http://", "https://")):
        url, _, name = setting.partition("#")
        model, *flags = name.split(",")
        stops = tuple(f.removeprefix("stop=") for f in flags if f.startswith("stop="))
        if not model or len(stops) + ("blind" in flags) != len(flags):
            raise BadSettings(
                f"{setting!r}: write the address as http://host:8000/v1#model; behind it ,blind without vision or ,stop=###."
            )
        return BrainSettings(kind="openai", model=model, url=url.rstrip("/"), sees="blind" not in flags, stop=stops)
    kind, _, model = setting.partition(":")
    if kind == "pathasst":
        model, _, flag = model.partition(",")
        if flag not in ("", "router"):
            raise BadSettings(f"{setting!r}: write pathasst:<id or folder>, or pathasst:<id or folder>,router.")
        return BrainSettings(model=model or EMBEDDED, router=ROUTER if flag else None)
    if kind == "llamacpp":
        return BrainSettings(kind="llamacpp", model=model or "qwen2.5-coder-1.5b", sees=False)
    raise BadSettings(f"no brain is called {setting!r}; use pathasst, llamacpp, or http://host:8000/v1#model.")


def open_brain(setting: str | BrainSettings | None = None) -> Brain:
    """The brain behind a setting, opened once per process; None: `$PATHASST_BRAIN`, or our own embedded PathAsst.

    Raises BadSettings, MissingWeights (with the command that fetches them) or MissingPackage.
    """
    if setting is None:
        setting = os.environ.get("PATHASST_BRAIN") or "pathasst"
    return _open(parse_brain(setting) if isinstance(setting, str) else setting)


@lru_cache(maxsize=2)
def _open(settings: BrainSettings) -> Brain:
    if settings.kind == "openai":
        from pathasst.assistant.brains.remote import RemoteBrain

        return RemoteBrain.open(settings)
    if settings.kind == "llamacpp":
        from pathasst.assistant.brains.llamacpp import LlamaCppBrain

        return LlamaCppBrain.open(settings)
    from pathasst.assistant.brains.local import LocalBrain

    return LocalBrain.open(settings)
