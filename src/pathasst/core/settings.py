"""Settings: typed values with their limits, read from a recipe (YAML), from `--set name=value`, or made in Python.

A room declares its settings once and gets loading, limits and messages with them:

    class SearchSettings(Settings):
        room: ClassVar[str] = "search"                       # recipes/<recipe>/search.yaml
        renamed: ClassVar[dict[str, str]] = {"k": "hits"}    # an old name → what to write now

        hits: int = Field(default=10, ge=1, description="how many passages a search returns")
        model: ModelSettings = ModelSettings()               # nested settings are Settings, too

    SearchSettings(hits=3)                                   # from Python
    SearchSettings.load("embedded", ["hits=3", "model.size=small"])

Cross-field checks are pydantic validators that raise ValueError. Whatever is wrong becomes one BadSettings, which names the file,
the setting and what is allowed. A settings object does not change; `settings.replace(hits=3)` makes another and checks it again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self, Union, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from pathasst.core.errors import BadSettings
from pathasst.core.recipes import read_recipe, recipe_path

__all__ = ["Field", "Settings", "Texts", "override"]

Texts = Annotated[tuple[str, ...], BeforeValidator(lambda value: (value,) if isinstance(value, str) else value)]
"""Texts; one alone may be written without a list."""


if TYPE_CHECKING:
    _Checked = BaseModel
else:

    class _CheckedMeta(type(BaseModel)):
        """Settings that are made in Python fail with BadSettings, as those of a recipe do."""

        def __call__(cls, *args: Any, **values: Any) -> Any:
            try:
                return super().__call__(*args, **values)
            except ValidationError as error:
                raise BadSettings(explain(cls, error)) from error

    class _Checked(BaseModel, metaclass=_CheckedMeta):
        """What `Settings` extends."""


class Settings(_Checked):
    """Base of every settings class. Unknown names are errors; lists become tuples where the field is a tuple."""

    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True, protected_namespaces=())

    room: ClassVar[str] = ""
    """Name of the room's recipe files, `recipes/<recipe>/<room>.yaml`."""
    renamed: ClassVar[dict[str, str]] = {}
    """Names that a setting had earlier → what to write today."""

    @classmethod
    def load(cls, recipe: str | Path, overrides: Iterable[str] = (), *, room: str = "", **changes: Any) -> Self:
        """The settings of a recipe, by name or path of a YAML file; `room` names other recipe files than the class does.

        `overrides` are texts `name=value`, as `--set` takes them, with dots into nested settings; `changes` replace top-level
        values last. Raises BadSettings.
        """
        room, recipe = room or cls.room, str(recipe)
        return cls.of(read_recipe(room, recipe), overrides, where=str(recipe_path(room, recipe)), **changes)

    @classmethod
    def of(cls, values: Mapping[str, Any], overrides: Iterable[str] = (), *, where: str = "", **changes: Any) -> Self:
        """The settings of plain values; `where` names their file in messages. Raises BadSettings."""
        merged = {**override(values, overrides), **changes}
        try:
            return cls.model_validate(merged)
        except ValidationError as error:
            raise BadSettings(explain(cls, error, where)) from error

    def replace(self, **changes: Any) -> Self:
        """A copy with other values, checked. Raises BadSettings."""
        return type(self)(**{**{name: getattr(self, name) for name in self.model_fields_set}, **changes})

    def plain(self) -> dict[str, Any]:
        """All values as JSON and YAML can carry them."""
        return self.model_dump(mode="json")


def override(values: Mapping[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """Plain values with `name=value` texts applied; values are YAML, dots lead into nested settings and numbers into lists.

    Raises BadSettings for a text that is not of this form or leads nowhere.
    """
    import copy

    import yaml

    from pathasst.core import yaml_text

    merged = copy.deepcopy(dict(values))
    for text in overrides:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise BadSettings(f"--set {text}: write name=value, such as --set steps=100.")
        *parents, last = name.strip().split(".")
        place: Any = merged
        try:
            for key in parents:
                place = place[int(key)] if isinstance(place, list) else place.setdefault(key, {})
            place[int(last) if isinstance(place, list) else last] = yaml_text.load(value)
        except yaml.YAMLError as error:
            raise BadSettings(f"--set {text}: the value is no YAML: {error}") from error
        except (AttributeError, IndexError, TypeError, ValueError) as error:
            raise BadSettings(f"--set {text}: {'.'.join(parents)} holds no settings that a name could lead into.") from error
    return merged


def explain(kind: type[BaseModel], error: ValidationError, where: str = "") -> str:
    """Every fault of a validation as a sentence: the file, the setting, what is allowed."""
    faults = [_fault(kind, fault) for fault in error.errors(include_url=False)]
    return f"{where or kind.__name__}: " + "; ".join(dict.fromkeys(faults)) + "."


def _fault(kind: type[BaseModel], fault: Any) -> str:
    name = ".".join(str(part) for part in fault["loc"] if not str(part).startswith(("function-", "tuple[", "constrained-")))
    message = str(fault["msg"]).removeprefix("Value error, ").rstrip(".")
    if fault["type"] == "extra_forbidden":
        owner = _owner(kind, fault["loc"][:-1])
        return _unknown(owner, str(fault["loc"][-1]), name)
    if fault["type"] == "missing":
        return f"{name} is missing"
    if fault["type"] == "value_error" or not name:
        return f"{name}: {message}" if name else message
    return f"{name}: {message[:1].lower()}{message[1:]}, not {fault['input']!r}"


def _unknown(owner: type[BaseModel], name: str, path: str) -> str:
    if new := getattr(owner, "renamed", {}).get(name):
        return f"{path} is no longer a setting: use {new}"
    names = sorted(owner.model_fields)
    close = get_close_matches(name, names, 1)
    return f"there is no setting {path}; " + (f"did you mean {close[0]}?" if close else f"there are {', '.join(names)}")


def _owner(kind: type[BaseModel], path: Sequence[int | str]) -> type[BaseModel]:
    """The settings class that a path of names leads to."""
    for part in path:
        if part in kind.model_fields:
            nested = _nested(kind.model_fields[str(part)].annotation)
            kind = nested or kind
    return kind


def _nested(annotation: Any) -> type[BaseModel] | None:
    """The settings class in a type such as `tuple[Source, ...]` or `Source | None`."""
    if isinstance(annotation, type) and get_origin(annotation) is None:
        return annotation if issubclass(annotation, BaseModel) else None
    if get_origin(annotation) in (tuple, list, dict, Union, UnionType):
        return next((inner for a in get_args(annotation) if (inner := _nested(a))), None)
    return None
