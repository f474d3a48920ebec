"""The forms in which others keep pictures with text: tables, JSON, Parquet, WebDataset, pictures with texts beside them.

Every form gives `RawRow`s: a key, and values by lower-case column. Knows files, nothing of what a column means.
"""

from __future__ import annotations

import contextlib
import csv
import itertools
import json
import re
import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pathasst.core.errors import BadInput, BadSettings
from pathasst.core.tables import lines_of, read_table, read_text

PICTURES = frozenset([".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".gif", ".bmp", ".jp2", ".heic", ".avif", ".dcm"])
TEXTS = (".txt", ".caption", ".text")
SPREADSHEETS = (".xlsx", ".xls", ".ods", ".numbers")
TABLES, JSONS, TARS = (".csv", ".tsv", ".tab"), (".json", ".jsonl", ".ndjson"), (".tar", ".tar.gz", ".tgz")
PARQUETS = (".parquet", ".arrow")  # Arrow: what `save_to_disk` of Hugging Face writes
FORMATS = ("table", "json", "parquet", "webdataset", "folder")
METADATA = frozenset(("metadata.csv", "metadata.jsonl", "metadata.parquet"))  # of a Hugging Face image folder
ABOUT = re.compile(r"(?:dataset_?(?:info|infos|card|dict)|croissant|manifest|state|stats|config)\.json|readme.*", re.IGNORECASE)
"""Files that are about a data set, and hold no rows."""


@dataclass(frozen=True, slots=True)
class RawRow:
    """One row as it was found. `picture`: the bytes, where the form holds them itself."""

    key: str
    values: dict[str, Any]
    picture: bytes = b""
    pictures: tuple[bytes, ...] = ()  # of a row with a list of them
    fault: str = ""  # why the row cannot be read; the values are then empty


Reader = Callable[[Path], Iterator[RawRow]]


def format_of(path: Path) -> str:
    """Which reader a file is for; empty for none."""
    name = path.name.lower()
    if name.endswith(TARS):
        return "webdataset"
    if name.startswith("cache-") and name.endswith(".arrow"):  # what `map` of Hugging Face left behind: the rows again
        return ""
    name = name.removesuffix(".gz")
    for form, suffixes in (("table", TABLES), ("json", JSONS), ("parquet", PARQUETS)):
        if name.endswith(suffixes):
            return form
    return ""


def files_of(source: Path, form: str = "") -> tuple[str, list[Path]]:
    """(form, files) of a file or folder. A folder is read by the one form its files have; pictures with texts beside them last.

    Raises BadSettings when there is nothing to read, or more than one form fits and none is chosen.
    """
    if source.is_file():
        form = form or format_of(source)
        if form in ("", "folder"):
            _refuse_spreadsheet([source])
            raise BadSettings(f"{source.name} is none of {', '.join((*TABLES, *JSONS, *PARQUETS, *TARS))}, nor a folder.")
        return form, [source]
    if not source.is_dir():
        raise BadSettings(f"{source} does not exist.")
    files = _files_below(source)
    by_form = _by_form(files)
    metadata = [p for p in files if p.name.lower() in METADATA and form in ("", format_of(p))]
    if metadata:
        return format_of(metadata[0]), [p for p in metadata if format_of(p) == format_of(metadata[0])]
    if form == "folder" or (not form and not by_form):
        if not form:
            _refuse_spreadsheet(files)
        if not any(p.suffix.lower() in PICTURES for p in files):
            kinds = sorted({p.suffix.lower() or "no suffix" for p in files})
            raise BadSettings(
                f"{source} holds no picture, table, JSON, Parquet or tar file, but {', '.join(kinds) or 'nothing'}."
            )
        return "folder", [source]
    if not form and len(by_form) > 1:
        choices = ", ".join(f"--format {kind} ({len(paths)} files)" for kind, paths in sorted(by_form.items()))
        raise BadSettings(f"{source} can be read in several ways; give the file, or choose {choices}.")
    form = form or next(iter(by_form))
    if not by_form.get(form):
        raise BadSettings(f"{source} holds no file of the form {form!r}; the forms are {', '.join(FORMATS)}.")
    return form, by_form[form]


def _refuse_spreadsheet(files: list[Path]) -> None:
    if sheet := next((p for p in files if p.suffix.lower() in SPREADSHEETS), None):
        raise BadSettings(
            f"{sheet} is a spreadsheet: save it as CSV. To read a folder's pictures without it, choose --format folder."
        )


def _files_below(folder: Path) -> list[Path]:
    files = (p for p in folder.rglob("*") if not any(x.startswith(".") or x == "__MACOSX" for x in p.relative_to(folder).parts))
    return sorted(p for p in files if p.is_file())


def _by_form(files: list[Path]) -> dict[str, list[Path]]:
    """The files with rows by their form; a JSON file beside the picture of its name is that picture's text."""
    stems = {p.with_suffix("") for p in files if p.suffix.lower() in PICTURES}
    by_form: dict[str, list[Path]] = {}
    for path in files:
        beside = path.suffix.lower() == ".json" and (
            path.with_suffix("") in stems or path.with_suffix("").suffix.lower() in PICTURES
        )
        if (kind := format_of(path)) and not beside and not ABOUT.fullmatch(path.name):
            by_form.setdefault(kind, []).append(path)
    return by_form


def reader_of(form: str) -> Reader:
    """Raises BadSettings for an unknown form."""
    readers: dict[str, Reader] = {
        "table": _table,
        "json": _json,
        "parquet": _parquet,
        "webdataset": _webdataset,
        "folder": _folder,
    }
    if form not in readers:
        raise BadSettings(f"--format {form} is unknown; choose {', '.join(FORMATS)}.")
    return readers[form]


def _table(path: Path) -> Iterator[RawRow]:
    try:
        _, rows = read_table(path)
        for line, row in rows:
            yield RawRow(f"line {line}", dict(row))
    except (OSError, csv.Error) as error:
        raise BadInput(f"{path.name}: {error}") from error


def _json(path: Path) -> Iterator[RawRow]:
    """JSON Lines; a list; an object of objects or texts by key; an object that holds one list; COCO captions."""
    try:
        text = read_text(path)
    except OSError as error:
        raise BadInput(f"{path.name}: {error}") from error
    if path.name.lower().removesuffix(".gz").endswith(".json"):
        try:
            yield from _objects(json.loads(text))
            return
        except (ValueError, RecursionError) as error:
            if "\n" not in text.strip() or not text.lstrip().startswith("{"):
                raise BadInput(f"{path.name} is no JSON: {error}") from error
    for number, line in enumerate(lines_of(text), 1):
        if line.strip():
            yield _line(number, line)


def _line(number: int, line: str) -> RawRow:
    key = f"line {number}"
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        return RawRow(key, {}, fault=f"no JSON: {error}")
    return RawRow(key, _lowered(value)) if isinstance(value, dict) else RawRow(key, {}, fault="no JSON object")


def _objects(content: Any) -> Iterator[RawRow]:
    if isinstance(content, dict) and isinstance(content.get("images"), list) and isinstance(content.get("annotations"), list):
        yield from _coco(content)
        return
    if isinstance(content, dict):
        lists = [v for v in content.values() if isinstance(v, list) and v and isinstance(v[0], dict)]
        if len(lists) == 1 and not ROW_LISTS & content.keys():
            content = lists[0]
        elif ROW_LISTS & content.keys():
            content = [content]
        elif content and all(k.lower() in SPLITS and isinstance(v, list) for k, v in content.items()):
            content = [{"split": k, **r} if isinstance(r, dict) else r for k, rows in content.items() for r in rows]
        else:
            content = [_keyed(key, value) for key, value in content.items()]
    if not isinstance(content, list):
        raise ValueError("neither a list nor an object of rows")
    for number, value in enumerate(content, 1):
        key = f"row {number}"
        yield RawRow(key, _lowered(value)) if isinstance(value, dict) else RawRow(key, {}, fault="no JSON object")


ROW_LISTS = frozenset(("conversations", "messages", "captions"))
"""Keys whose list belongs to one row."""
SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing", "eval"), "test"),
}
"""How the parts of a set are called."""


def _keyed(key: str, value: Any) -> Any:
    """A row of an object of rows: its key is its id, or the picture's name where the value is a text."""
    if isinstance(value, dict):
        return {"id": key, **value}
    texts = isinstance(value, list) and bool(value) and all(isinstance(v, str) for v in value)
    return {"image": key, "captions": value} if texts else {"image": key, "caption": value} if isinstance(value, str) else value


def _coco(content: dict[str, Any]) -> Iterator[RawRow]:
    images = {str(i["id"]): i for i in content["images"] if isinstance(i, dict) and "id" in i}
    for number, note in enumerate(content["annotations"], 1):
        key = f"annotation {number}"
        image = images.get(str(note.get("image_id"))) if isinstance(note, dict) else None
        if image is None:
            yield RawRow(key, {}, fault="no image of this image_id")
        else:
            yield RawRow(key, {**_lowered(image), **_lowered(note)})
    image_ids = {str(n.get("image_id")) for n in content["annotations"] if isinstance(n, dict)}
    for id_, image in images.items():
        if id_ not in image_ids:
            yield RawRow(f"image {id_}", _lowered(image))


def _lowered(row: dict[str, Any]) -> dict[str, Any]:
    return {str(k).strip().lower(): v for k, v in row.items()}


def _parquet(path: Path) -> Iterator[RawRow]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = itertools.count(1)
    try:
        with contextlib.ExitStack() as opened:
            if path.suffix.lower() == ".arrow":
                stream = opened.enter_context(pa.ipc.open_stream(opened.enter_context(pa.memory_map(str(path)))))
                schema, batches = stream.schema, (b for batch in stream for b in _slices(batch))
            else:
                file = opened.enter_context(pq.ParquetFile(path))
                schema, batches = file.schema_arrow, file.iter_batches(batch_size=64)
            names = _class_names(schema.metadata)
            for batch in batches:
                for row in batch.to_pylist():
                    for column, of_class in names.items():
                        if isinstance(value := row.get(column), int) and 0 <= value < len(of_class):
                            row[column] = of_class[value]
                    yield RawRow(f"row {next(number)}", _lowered(row))
    except (pa.ArrowException, OSError, zlib.error) as error:
        raise BadInput(f"{path.name} cannot be read as Parquet: {error}") from error


def _slices(batch: Any) -> Iterator[Any]:
    return (batch.slice(start, 64) for start in range(0, batch.num_rows, 64))


def _class_names(metadata: Mapping[bytes, bytes] | None) -> dict[str, list[str]]:
    """The classes' names of the columns that Hugging Face stores as numbers."""
    try:
        features = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
        return {k: f["names"] for k, f in features.items() if isinstance(f, dict) and f.get("_type") == "ClassLabel"}
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError):
        return {}


def _webdataset(path: Path) -> Iterator[RawRow]:
    """Samples are the neighbouring members of one name up to its first dot. What a cut-off tar still holds is read."""
    fault = ""
    members = _members(path)
    while True:
        try:
            first = next(members, None)
        except BadInput as error:
            fault, first = str(error), None
        if first is None:
            break
        yield first
    if fault:
        yield RawRow("end of the tar", {}, fault=fault)


def _members(path: Path) -> Iterator[RawRow]:
    key, parts = "", list[tuple[str, bytes]]()
    try:
        with tarfile.open(path, "r|*") as tar:
            for member in tar:
                if not member.isfile():
                    continue
                folder, _, name = member.name.rpartition("/")
                if name.startswith("."):  # macOS writes "._a.jpg" beside each file
                    continue
                stem, _, suffix = name.partition(".")
                here = f"{folder}/{stem}".strip("./")
                if here != key and parts:
                    yield _sample(key, parts)
                    parts = []
                key = here
                file = tar.extractfile(member)
                parts.append((suffix.lower(), file.read() if file else b""))
        _require_end(path)
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        if parts:
            yield _sample(key, parts)
        raise BadInput(f"{path.name} is no whole tar file: {error}") from error
    if parts:
        yield _sample(key, parts)


def _require_end(path: Path) -> None:
    """A tar file ends with two empty blocks; `tarfile` does not mind when one was cut off between two members."""
    with path.open("rb") as file:
        if file.read(2) == b"\x1f\x8b":  # gzip has its own check
            return
        file.seek(-min(1024, path.stat().st_size), 2)
        if any(file.read()):
            raise tarfile.ReadError("its end is missing")


def _sample(key: str, parts: Iterable[tuple[str, bytes]]) -> RawRow:
    values: dict[str, Any] = {}
    texts: dict[str, str] = {}
    pictures: dict[str, bytes] = {}
    for suffix, content in parts:
        last = f".{suffix.rpartition('.')[2]}"
        if last in PICTURES:
            pictures[suffix] = content
        elif last == ".json":
            try:
                value = json.loads(content)
            except (ValueError, RecursionError) as error:
                return RawRow(key, {}, fault=f"{suffix}: no JSON: {error}")
            name = suffix.removesuffix("json").removesuffix(".") or "conversations"
            values |= _lowered(value) if isinstance(value, dict) else {name: value}
        elif last in TEXTS:
            texts["caption"] = content.decode("utf-8", "replace").removeprefix("\ufeff")
        elif last == ".cls":
            texts["label"] = content.decode("utf-8", "replace").strip()
    values.pop("caption" if texts.get("caption", "").strip() else "", None)
    of_sample = [c for s, c in pictures.items() if "." not in s] or list(pictures.values())  # beside 1.jpg: 1.mask.png
    several = tuple(pictures.values()) if len(pictures) > 1 else ()
    return RawRow(key, {**values, **texts}, of_sample[0] if len(of_sample) == 1 else b"", several)


def _folder(folder: Path) -> Iterator[RawRow]:
    """Each picture with the text of its name beside it: `.txt`, `.caption`, or `.json`; and texts without a picture.

    A text may lie in a folder of texts as its picture lies in one of pictures: `captions/x/a.txt` for `images/x/a.jpg`.
    """
    files = _files_below(folder)
    pictures = [p for p in files if p.suffix.lower() in PICTURES]
    beside: dict[str, list[Path]] = {}
    for path in files:
        if path.suffix.lower() in (*TEXTS, ".json"):
            beside.setdefault(str(path.with_suffix("")).lower(), []).append(path)
            beside.setdefault(str(path).removesuffix(path.suffix).lower(), [])
    texts_of = {p: beside.get(str(p.with_suffix("")).lower(), []) + beside.get(str(p).lower(), []) for p in pictures}
    _add_parallel(folder, texts_of, [p for texts in beside.values() for p in texts])
    own_texts: set[Path] = set()
    for path, texts in texts_of.items():  # a.txt, a.jpg.txt
        name = str(path.relative_to(folder))
        values: dict[str, Any] = {}
        fault = ""
        for text in dict.fromkeys(texts):
            own_texts.add(text)
            try:
                values |= _beside(text)
            except (ValueError, OSError, RecursionError) as error:
                fault = f"{text.name}: {error}"
        yield RawRow(name, {"image": name, **values} if not fault else {}, fault=fault)
    for path in (p for texts in beside.values() for p in texts if p not in own_texts):
        yield RawRow(str(path.relative_to(folder)), {"image": "", "caption": path.name})


def _add_parallel(folder: Path, texts_of: dict[Path, list[Path]], texts: list[Path]) -> None:
    """To pictures without a text, the one text whose path differs in one folder alone; none where that fits two pictures."""
    taken = {t for own in texts_of.values() for t in own}

    def patterns(path: Path) -> list[tuple[str, ...]]:
        *folders, _ = (p.lower() for p in path.relative_to(folder).parts)
        return [(*folders[:n], "*", *folders[n + 1 :], path.stem.lower()) for n in range(len(folders))]

    free: dict[tuple[str, ...], list[Path]] = {}
    alone: dict[tuple[str, ...], list[Path]] = {}
    for paths, by_pattern in (
        ((t for t in texts if t not in taken), free),
        ((p for p, own in texts_of.items() if not own), alone),
    ):
        for path in paths:
            for pattern in patterns(path):
                by_pattern.setdefault(pattern, []).append(path)
    for pattern, pictures in alone.items():
        if len(pictures) == 1 and len(free.get(pattern, ())) == 1 and not texts_of[pictures[0]]:
            texts_of[pictures[0]] = free[pattern]


def _beside(path: Path) -> dict[str, Any]:
    text = read_text(path)
    if path.suffix.lower() != ".json":
        return {"caption": text.strip()}
    value = json.loads(text)
    if isinstance(value, str):
        return {"caption": value}
    if not isinstance(value, dict):
        raise ValueError("no JSON object")
    values = _lowered(value)
    values.pop("image", None)  # the picture is the one it lies beside
    return values


__all__ = ["FORMATS", "PICTURES", "RawRow", "files_of", "reader_of"]
