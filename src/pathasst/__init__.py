"""PathAsst: open-access papers and textbooks → a pathology assistant of your own.

```python
import pathasst as pa

answer = pa.ask("field.png", "What fraction of the nuclei is Ki67 positive?")
result = pa.tools.ki67_cells("field.png", um_per_px=0.25)
pairs = pa.curate(pa.collect("articles/"), out="out/pairs")
```

Names load when they are first used: `import pathasst` imports neither torch nor a room. `__init__.pyi` has their types.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

__version__ = "0.1.0"

_FUNCTIONS = {
    "ask": "pathasst.api.assistant",
    "PathCLIP": "pathasst.api.models",
    "PathAsst": "pathasst.api.models",
    "split_caption": "pathasst.api.line",
    "cut_panels": "pathasst.api.line",
    "slide": "pathasst.api.slides",
}
"""Public name → the module that has it."""
_VERBS = {
    "collect": "line",
    "curate": "line",
    "instruct": "line",
    "evaluate": "evaluate",
    "tools": "tools",
    "papers": "papers",
    "train": "train",
}
"""Public name, also that of a room → the module of `pathasst.api` with its functions."""

__all__ = ["__version__", *sorted([*_FUNCTIONS, *_VERBS])]


class Verb:
    """A room as a person uses it: called, it runs the room's verb; it has the public functions, and what the room itself has."""

    def __init__(self, name: str, module: str) -> None:
        self.__name__, self._module = name, f"pathasst.api.{module}"

    def __call__(self, *args: Any, **settings: Any) -> Any:
        return getattr(import_module(self._module), self.__name__)(*args, **settings)

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        public = import_module(self._module)
        if attribute in getattr(public, "__all__", ()):
            return getattr(public, attribute)
        room = sys.modules.get(f"pathasst.{self.__name__}") or import_module(f"pathasst.{self.__name__}")
        try:
            return getattr(room, attribute)
        except AttributeError:
            return import_module(f"pathasst.{self.__name__}.{attribute}")

    def __dir__(self) -> list[str]:
        return sorted(import_module(self._module).__all__)

    def __repr__(self) -> str:
        return f"<pathasst.{self.__name__}: {', '.join(dir(self))}>"


class _Package(ModuleType):
    """The package itself. Importing the room `pathasst.tools` would replace the public `tools`: such names stay as they are."""

    def __getattr__(self, name: str) -> Any:
        if name in _FUNCTIONS:
            return getattr(import_module(_FUNCTIONS[name]), name)
        raise AttributeError(f"module 'pathasst' has no attribute {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in _VERBS or isinstance(value, Verb):
            super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return __all__


sys.modules[__name__].__class__ = _Package
for _name, _module in _VERBS.items():
    setattr(sys.modules[__name__], _name, Verb(_name, _module))
