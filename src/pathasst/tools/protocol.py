"""The one tool protocol: what a tool declares, what it is given, what it returns.

Knows no tool. A tool is a class with a card, a pydantic model of its arguments and a `run`; the same class feeds the assistant's
prompt, data generation, the page and MCP (see `ToolSpec`). It loads its model once, on the first call.
"""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from pathasst.core import weights
from pathasst.core.errors import BadInput, BadSettings, PathAsstError
from pathasst.core.records import NOTICE, ToolCall, ToolResult, ToolSpec

if TYPE_CHECKING:
    import numpy as np

SCALE = "um_per_px"
"""The argument that a picture's scale goes into."""


class Arguments(BaseModel):
    """Base of every tool's arguments: unknown names are an error, so that a model's slip is seen and can be repaired."""

    model_config = ConfigDict(extra="forbid", frozen=True)


A = TypeVar("A", bound=Arguments)


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCard:
    """What a person or a model must know before using a tool. The one source of prompts, docs and listings."""

    purpose: str  # one or two sentences for the model: what for, and when not
    expects: str  # stain, magnification, modality
    classes: tuple[str, ...] = ()
    scores: str = ""  # measured, with data, split and n
    licence: str = ""
    validated: bool = False  # against labels of the very task
    limits: str = ""


class Tool(ABC, Generic[A]):
    """A specialist model behind the protocol."""

    name: ClassVar[str]
    card: ClassVar[ToolCard]
    arguments: ClassVar[type[Arguments]]
    needs_image: ClassVar[bool] = True
    weights: ClassVar[tuple[str, ...]] = ()  # ids in the registry of weights; all must be present
    notice: ClassVar[str] = NOTICE  # of every result; empty for what is no model's output
    shows: ClassVar[bool] = False  # whether a brain that sees is to look at the pictures of its results
    required_look: ClassVar[tuple[str, tuple[str, ...]]] = ("", ())  # question of the look, classes that the tool is made for

    @classmethod
    def spec(cls) -> ToolSpec:
        """The tool as the language model sees it."""
        schema = _without_titles(cls.arguments.model_json_schema())
        schema.pop("description", None)  # the docstring of the arguments is for us, not for the model
        return ToolSpec(name=cls.name, description=cls.card.purpose, parameters=schema, needs_image=cls.needs_image)

    @classmethod
    def missing(cls) -> list[str]:
        """Ids of the weights that are not on this machine; a tool with any is not offered to the model."""
        return [id for id in cls.weights if not weights.present(id)]

    def version(self) -> str:
        """Which weights answer, for the provenance of the result."""
        return ", ".join(weights.version(id) for id in self.weights)

    def __call__(self, call: ToolCall, image: np.ndarray | None = None) -> ToolResult:
        """Validate, run and time one call. Every error of the input comes back in `ToolResult.error`, for the model to read.

        `image`: H×W×3 uint8 RGB, as `pathasst.imaging.pictures.load` gives it.
        """
        started = time.perf_counter()
        try:
            arguments, picture = self._parse(call), self._image(image)
            doubts = self._looked_at(picture)
            result = self.run(arguments, picture)
            result = replace(result, warnings=[*doubts, *result.warnings])
        except PathAsstError as error:
            result = ToolResult(name=self.name, error=str(error), remedy=error.remedy)
        seconds = time.perf_counter() - started
        version = result.version or self.version_or_empty()
        notice = "" if result.error else self.notice
        return replace(result, name=self.name, call_id=call.id, version=version, seconds=seconds, notice=notice)

    def scaled(self, arguments: Mapping[str, Any], um_per_px: float | None) -> tuple[dict[str, Any], str]:
        """The arguments with the scale of the picture that the call runs on, and a note where that changed or refused something.

        The picture's own scale counts more than one that a model wrote. One that the tool does not take (a typing slip, a
        resolution meant for printing) is left out, so that nobody reads an error about an argument that they did not give.
        """
        if um_per_px is None or SCALE not in self.arguments.model_fields:
            return dict(arguments), ""
        scale = arguments.get(SCALE)
        with_scale = {**arguments, SCALE: um_per_px}
        if SCALE in self._faults(with_scale):
            return dict(arguments), f"left out the picture's scale of {um_per_px:g} µm per pixel, which {self.name} does not take"
        if isinstance(scale, int | float) and abs(scale - um_per_px) > 0.01 * um_per_px:
            return with_scale, f"took the picture's own scale, {um_per_px:g} µm per pixel, instead of {scale:g}"
        return with_scale, ""

    def _looked_at(self, image: Any) -> list[str]:
        """Doubts that the picture is of the tool's kind; none with weights of the user's own. Raises BadInput where it is not."""
        question, classes = self.required_look
        if not question or image is None or getattr(self, "model", "") not in ("", *self.weights):
            return []
        from pathasst.tools import guard

        return guard.require(image, question, classes, self.name)

    def version_or_empty(self) -> str:
        """`version`, or empty when the weights are not here: an error result has to be made all the same."""
        try:
            return self.version()
        except PathAsstError:
            return ""

    @abstractmethod
    def run(self, arguments: A, image: np.ndarray) -> ToolResult:
        """Do the work on H×W×3 uint8 RGB. Raises BadInput for a picture the tool cannot work on."""

    def _faults(self, arguments: Mapping[str, Any]) -> set[str]:
        """Names of the arguments that do not fit."""
        try:
            self.arguments.model_validate(dict(arguments))
        except ValidationError as error:
            return {str(e["loc"][0]) for e in error.errors() if e["loc"]}
        return set()

    def _parse(self, call: ToolCall) -> A:
        try:
            return self.arguments.model_validate(call.arguments)  # type: ignore[return-value]
        except ValidationError as error:
            faults = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'arguments'}: {e['msg']}" for e in error.errors())
            raise BadInput(f"{self.name}: {faults}") from error

    def _image(self, image: Any) -> Any:
        if not self.needs_image:
            return image
        if image is None:
            raise BadInput(f"{self.name} needs a picture; ask the person for one.")
        shape: tuple[int, ...] = getattr(image, "shape", ())
        dtype = str(getattr(image, "dtype", type(image).__name__))
        if len(shape) != 3 or shape[-1] != 3 or dtype != "uint8":
            raise BadInput(f"{self.name} takes H×W×3 uint8 RGB, not {dtype} {tuple(shape)}; use pathasst.imaging.pictures.load.")
        return image


def _without_titles(schema: dict[str, Any]) -> dict[str, Any]:
    """A JSON schema without pydantic's `title`s, which cost tokens and say nothing; a property named title stays."""
    return {k: _clean(v) for k, v in schema.items() if not (k == "title" and isinstance(v, str))}


def _clean(value: Any) -> Any:
    if isinstance(value, dict):
        return _without_titles(value)
    return [_clean(v) for v in value] if isinstance(value, list) else value


@dataclass(slots=True)
class Registry:
    """The tools of one session, each made once. Importing it imports no tool's model."""

    tools: dict[str, Tool[Any]] = field(default_factory=dict)

    def add(self, tool: Tool[Any]) -> None:
        self.tools[tool.name] = tool

    def offered(self) -> list[ToolSpec]:
        """Specs of the tools whose weights are here."""
        return [t.spec() for t in self.tools.values() if not t.missing()]

    def call(self, call: ToolCall, image: np.ndarray | None = None) -> ToolResult:
        """Run one call; an unknown name is an error the model can read, not an exception."""
        tool = self.tools.get(call.name)
        if tool is None:
            names = ", ".join(sorted(self.tools))
            return ToolResult(name=call.name, call_id=call.id, error=f"no tool is called {call.name!r}; the tools are: {names}")
        return tool(call, image)


class OrderedRegistry(Registry):
    """The tools of a registry, each run by one thread at a time: a model is loaded once, and its memory is used once."""

    def __init__(self, registry: Registry, on_result: Callable[[ToolResult], None] = lambda result: None) -> None:
        super().__init__(dict(registry.tools))
        self._locks = {name: threading.Lock() for name in registry.tools}
        self._on_result = on_result

    def only(self, names: Sequence[str]) -> OrderedRegistry:
        """The tools of these names, with the same locks. Raises BadSettings for an unknown name."""
        if unknown := sorted(set(names) - set(self.tools)):
            raise BadSettings(f"no tool is called {', '.join(unknown)}; the tools are: {', '.join(self.tools)}.")
        fewer = OrderedRegistry(Registry({name: self.tools[name] for name in names}), self._on_result)
        fewer._locks = self._locks
        return fewer

    def call(self, call: ToolCall, image: np.ndarray | None = None) -> ToolResult:
        """As `Registry.call`; waits while another question uses the tool."""
        with self._locks.get(call.name, threading.Lock()):
            result = super().call(call, image)
        self._on_result(result)
        return result
