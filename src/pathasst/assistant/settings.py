"""The assistant's settings, as a recipe's `assistant.yaml` holds them. Knows the recipes' shape; opens nothing."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from pathasst.assistant.agent import Limits
from pathasst.assistant.brain import BrainSettings, parse_brain
from pathasst.core.errors import BadSettings


def state_dir() -> Path:
    """Where the server keeps its keys, uploads, audit log and feedback: `$PATHASST_HOME`, or the platform's data folder."""
    import platformdirs

    return Path(os.environ.get("PATHASST_HOME") or platformdirs.user_data_dir("pathasst"))


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeSettings:
    """How the assistant is served: how much at once, what is let in, what is kept. Every limit is checked before any work."""

    at_once: int = 4  # questions worked on at once; replies of one model are generated together
    waiting: int = 32  # requests that may wait; more are refused with 429
    wait_seconds: float = 120.0  # longest wait of one of them
    per_minute: int = 120  # requests a user may make a minute; 0: any number
    body_bytes: int = 32 * 2**20  # of one request
    slide_bytes: int = 4 * 2**30  # of one slide that the page uploads
    picture_bytes: int = 20 * 2**20  # of one picture
    picture_pixels: int = 40_000_000
    decoding_pixels: int = 80_000_000  # of all pictures that are decoded at the same time, whoever sent them; more wait
    picture_seconds: float = 20.0  # to decode one
    pictures: int = 8  # of one conversation
    quota_bytes: int = 512 * 2**20  # uploads one user may keep
    keep_seconds: float = 3600.0  # until uploads, made pictures and conversations are deleted
    image_hosts: tuple[str, ...] = ()  # hosts from which pictures may be fetched by address; none by default
    origins: tuple[str, ...] = ()  # web pages of other origins that may use the API (CORS); none by default
    hosts: tuple[str, ...] = ("localhost", "127.0.0.1", "[::1]")  # names this server answers to
    keys_required: bool = False  # `pathasst serve` sets it whenever it is bound beyond loopback
    user_header: str = ""  # header in which a proxy that logs people in gives their name, such as X-Forwarded-User
    proxies: tuple[str, ...] = ()  # addresses of proxies whose X-Forwarded-… headers and `user_header` are believed
    admins: tuple[str, ...] = ()  # names in `user_header` that may see the metrics and the audit log
    root_path: str = ""  # under which a proxy shows the server, such as /pathasst; the proxy takes it off
    audit_text: bool = False  # whether the audit log holds questions and answers
    drain_seconds: float = 30.0  # that running questions get when the server is told to stop
    home: Path = field(default_factory=state_dir)

    def __post_init__(self) -> None:
        object.__setattr__(self, "home", Path(self.home))  # a recipe's file holds text and lists
        for name in ("image_hosts", "origins", "hosts", "proxies", "admins"):
            value = getattr(self, name)
            object.__setattr__(self, name, (value,) if isinstance(value, str) else tuple(value))
        if min(self.at_once, self.waiting, self.body_bytes, self.picture_bytes, self.picture_pixels, self.pictures) < 1:
            raise BadSettings("serve: at_once, waiting, bytes, pixels and pictures must be at least 1.")
        if min(self.wait_seconds, self.picture_seconds, self.keep_seconds) <= 0 or self.per_minute < 0:
            raise BadSettings("serve: times must be above zero, per_minute at least 0.")
        if self.user_header and not self.proxies:
            raise BadSettings("serve: user_header needs the addresses of the proxies that may send it (proxies).")
        if self.root_path and (not self.root_path.startswith("/") or self.root_path.endswith("/")):
            raise BadSettings("serve: root_path begins with / and does not end with it.")


@dataclass(frozen=True, slots=True, kw_only=True)
class AssistantSettings:
    """Which brain, and how much one question may cost."""

    brain: BrainSettings = field(default_factory=BrainSettings)
    limits: Limits = field(default_factory=Limits)
    serve: ServeSettings = field(default_factory=ServeSettings)


def load_settings(recipe: str = "embedded", brain: str = "") -> AssistantSettings:
    """A recipe's settings; `brain`, or else `$PATHASST_BRAIN`, in place of the recipe's brain. Raises BadSettings."""
    from pathasst.core.recipes import read_recipe

    values = read_recipe("assistant", recipe)
    if unknown := sorted(set(values) - {"brain", "limits", "serve"}):
        raise BadSettings(f"recipe {recipe}: unknown settings {', '.join(unknown)}; known: brain, limits, serve.")
    name = brain or os.environ.get("PATHASST_BRAIN", "")
    mind = parse_brain(name) if name else _build(BrainSettings, values.get("brain") or {}, recipe)
    return AssistantSettings(
        brain=mind,
        limits=_build(Limits, values.get("limits") or {}, recipe),
        serve=_build(ServeSettings, values.get("serve") or {}, recipe),
    )


def _build(kind: Any, values: Any, recipe: str) -> Any:
    names = {f.name for f in fields(kind)}
    if not isinstance(values, dict) or set(values) - names:
        raise BadSettings(f"recipe {recipe}: {kind.__name__} takes {', '.join(sorted(names))}; got {values!r}.")
    try:
        return kind(**values)
    except TypeError as error:
        raise BadSettings(f"recipe {recipe}: {kind.__name__}: {error}") from error
