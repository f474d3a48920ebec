"""`pathasst doctor`: what is installed, which weights are here, which device is used, what is missing and how to get it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

# package → the extra that brings it; empty: part of the default install
PACKAGES = {
    "torch": "",
    "transformers": "",
    "open_clip": "",
    "timm": "",
    "daft": "",
    "faiss": "",
    "tantivy": "",
    "onnxruntime": "",
    "xllamacpp": "llamacpp",
    "openslide": "slides",
    "ray": "scale",
}
DISTRIBUTIONS = {"open_clip": "open_clip_torch", "faiss": "faiss-cpu", "openslide": "openslide-python"}


def doctor() -> None:
    """Say what is installed, which weights are here, what is missing and how to get it. Example: pathasst doctor"""
    from rich.console import Console

    console = Console(highlight=False)
    missing = [*_machine(console), *_packages(console), *_weights(console), *_tools(console)]
    console.print()
    if missing:
        console.print(f"[yellow]Missing: {len(missing)}[/]; in order of use:")
        for line in missing:
            console.print(f"  {line}", markup=False, soft_wrap=True)
    else:
        console.print("[green]Everything is here.[/] Try: pathasst demo")


def _machine(console: Console) -> list[str]:
    """Device, cores, memory, disk; nothing of it can be missing, but a full disk is said."""
    import os
    import platform
    import shutil

    import torch

    from pathasst import __version__
    from pathasst.core import weights

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {os.cpu_count()} cores"
    cache = weights.cache_dir()
    existing = next(p for p in [cache, *cache.parents] if p.exists())
    free = shutil.disk_usage(existing).free / 1e9
    writable = os.access(existing, os.W_OK)
    _say(console, True, "pathasst", f"{__version__}, Python {platform.python_version()}")
    _say(console, True, "device", device)
    _say(console, writable and free > 1, "cache", f"{cache} ({free:.0f} GB free{'' if writable else ', not writable'})")
    if not writable:
        return [f"a writable cache: set PATHASST_CACHE to a folder you may write (now {cache})"]
    return [] if free > 1 else [f"disk space for weights: {free:.1f} GB free in {cache}; set PATHASST_CACHE elsewhere"]


def _packages(console: Console) -> list[str]:
    import importlib.metadata
    import importlib.util

    hints = []
    for name, extra in PACKAGES.items():
        installed = importlib.util.find_spec(name) is not None
        detail = importlib.metadata.version(DISTRIBUTIONS.get(name, name)) if installed else f"optional, extra '{extra}'"
        _say(console, installed, name, detail)
        if not installed:
            hints.append(
                f"{name}: pip install 'pathasst[{extra}]'" if extra else f"{name}: pip install --force-reinstall pathasst"
            )
    return hints


def _weights(console: Console) -> list[str]:
    from pathasst.core import weights

    hints = []
    for entry in weights.registry().values():
        lacking = weights.lacking(entry.id)
        waits = f"{entry.size_mb:.0f} MB to fetch" if entry.id in lacking else f"is here, but needs {', '.join(lacking)}"
        if entry.recipe == "embedded" or not lacking:
            _say(console, not lacking, entry.id, waits if lacking else str(weights.path(entry.id)))
        if entry.id in lacking and entry.recipe == "embedded":
            hints.append(f"{entry.id}: pathasst models pull {entry.id}")
    return hints


def _tools(console: Console) -> list[str]:
    """Which tools the assistant would be offered now. Weights that nobody has made yet can be trained, not fetched."""
    from pathasst.core import weights
    from pathasst.tools.registry import default_registry

    hints = []
    for tool in default_registry().tools.values():
        lacking = tool.missing()
        _say(console, not lacking, f"tool {tool.name}", "ready" if not lacking else f"lacks {', '.join(lacking)}")
        if published := [id for id in lacking if id in weights.registry()]:
            hints.append(f"tool {tool.name}: pathasst models pull {' '.join(published)}")
        elif lacking:
            hints.append(f"tool {tool.name}: no weights are published; train it (docs/tools.md)")
    return hints


def _say(console: Console, good: bool, what: str, detail: str) -> None:
    mark = "[green]✓[/]" if good else "[red]✗[/]"
    console.print(f" {mark} {what:<22} {detail}", soft_wrap=True)
