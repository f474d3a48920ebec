"""The assistant's settings, as a recipe's `assistant.yaml` holds them. Knows the recipes' shape; opens nothing."""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar, Self
from urllib.parse import urlsplit

from pydantic import model_validator

from pathasst.assistant.agent import Limits
from pathasst.assistant.brain import parse_brain
from pathasst.assistant.brains.settings import BrainSettings
from pathasst.core.settings import Field, Settings, Texts


def state_dir() -> Path:
    """Where the server keeps its keys, uploads, audit log and feedback: `$PATHASST_HOME`, or the platform's data folder."""
    import platformdirs

    return Path(os.environ.get("PATHASST_HOME") or platformdirs.user_data_dir("pathasst"))


class OpenIdSettings(Settings):
    """An OpenID provider at which people log in to the page. The client's secret is `$PATHASST_OPENID_SECRET`, if it has one."""

    issuer: str = Field(default="", description="Such as https://sso.example.org/realms/clinic. Empty: nobody logs in that way.")
    client_id: str = Field(default="", description="What the provider calls this server.")
    scope: str = Field(default="openid profile email", description="What is asked for.")
    name_claim: str = Field(
        default="sub", description="Claim of the ID token that names a person; one that no other person can ever get."
    )
    groups_claim: str = Field(default="groups", description="Claim of the ID token that lists a person's groups.")
    groups: Texts = Field(default=(), description="Groups that may use the server; none: everybody whom the provider lets in.")
    admin_groups: Texts = Field(default=(), description="Groups that may use it and see the metrics and the audit log.")

    @model_validator(mode="after")
    def _can_be_trusted(self) -> Self:
        if self.issuer and not self.client_id:
            raise ValueError("openid.issuer needs openid.client_id")
        parts = urlsplit(self.issuer)
        if self.issuer and not (parts.scheme == "https" or parts.hostname in ("localhost", "127.0.0.1", "::1")):
            raise ValueError("openid.issuer must be an https address")
        return self

    @property
    def host(self) -> str:
        """The provider's name for people; empty without one."""
        return urlsplit(self.issuer).netloc


class ServeSettings(Settings):
    """How the assistant is served: how much at once, what is let in, what is kept. Every limit is checked before any work."""

    at_once: int = Field(default=4, ge=1, description="Questions worked on at once; replies of one model are generated together.")
    waiting: int = Field(default=32, ge=1, description="Requests that may wait; more are refused with 429.")
    wait_seconds: float = Field(default=120.0, gt=0, description="Longest wait of one of them.")
    per_minute: int = Field(default=120, ge=0, description="Requests a user may make a minute. 0: any number.")
    body_bytes: int = Field(default=32 * 2**20, ge=1, description="Of one request.")
    slide_bytes: int = Field(default=4 * 2**30, description="Of one slide that the page uploads.")
    picture_bytes: int = Field(default=20 * 2**20, ge=1, description="Of one picture.")
    picture_pixels: int = Field(default=40_000_000, ge=1, description="Of one picture.")
    decoding_pixels: int = Field(
        default=80_000_000, description="Of all pictures that are decoded at the same time, whoever sent them; more wait."
    )
    picture_seconds: float = Field(default=20.0, gt=0, description="To decode one picture.")
    pictures: int = Field(default=8, ge=1, description="Of one conversation.")
    quota_bytes: int = Field(default=512 * 2**20, description="Uploads one user may keep.")
    keep_seconds: float = Field(default=3600.0, gt=0, description="Until uploads, pictures and conversations are deleted.")
    image_hosts: Texts = Field(default=(), description="Hosts from which pictures may be fetched by address; none by default.")
    origins: Texts = Field(default=(), description="Web pages of other origins that may use the API (CORS); none by default.")
    hosts: Texts = Field(default=("localhost", "127.0.0.1", "[::1]"), description="Names this server answers to.")
    keys_required: bool = Field(default=False, description="`pathasst serve` sets it whenever it is bound beyond loopback.")
    user_header: str = Field(
        default="", description="Header in which a proxy that logs people in gives their name, such as X-Forwarded-User."
    )
    proxies: Texts = Field(
        default=(), description="Addresses of proxies whose X-Forwarded-… headers and `user_header` are believed."
    )
    admins: Texts = Field(default=(), description="Names in `user_header` that may see the metrics and the audit log.")
    openid: OpenIdSettings = OpenIdSettings()
    workers: int = Field(default=1, ge=1, le=64, description="Processes that share the users of the server.")
    root_path: str = Field(
        default="",
        pattern="^(/.*[^/])?$",
        description="Under which a proxy shows the server, such as /pathasst; the proxy takes it off.",
    )
    history_days: float = Field(
        default=0.0, ge=0, description="Days that the page's conversations are kept on disk. 0: in memory, for `keep_seconds`."
    )
    otlp: str = Field(default="", description="OpenTelemetry collector, such as http://collector:4318. Empty: none.")
    audit_text: bool = Field(default=False, description="Whether the audit log holds questions and answers.")
    drain_seconds: float = Field(default=30.0, description="That running questions get when the server is told to stop.")
    home: Path = Field(default_factory=state_dir, description="Folder of keys, uploads, audit log and feedback.")

    @model_validator(mode="after")
    def _believes_someone(self) -> Self:
        if self.user_header and not self.proxies:
            raise ValueError("user_header needs the addresses of the proxies that may send it (proxies)")
        return self


class AssistantSettings(Settings):
    """Which brain, and how much one question may cost."""

    room: ClassVar[str] = "assistant"

    brain: BrainSettings = BrainSettings()
    limits: Limits = Limits()
    serve: ServeSettings = Field(default_factory=ServeSettings)


def load_settings(recipe: str = "embedded", brain: str = "") -> AssistantSettings:
    """A recipe's settings; `brain`, or else `$PATHASST_BRAIN`, in place of the recipe's brain. Raises BadSettings."""
    name = brain or os.environ.get("PATHASST_BRAIN", "")
    settings = AssistantSettings.load(recipe)
    return settings.replace(brain=parse_brain(name)) if name else settings
