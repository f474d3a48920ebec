"""`import_dataset`: what a laboratory already has → a dataset of Pairs, Figures or Conversations, with provenance and counts."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

from pathasst.collect import pictures
from pathasst.collect.own import chat, fields
from pathasst.collect.own.rows import RawRow, files_of, reader_of
from pathasst.core.errors import BadInput, BadSettings
from pathasst.core.files import fingerprint
from pathasst.core.records import Conversation, Figure, Mark, Pair
from pathasst.dataset import Dropped, Manifest, Unit, run_stage

KINDS: dict[str, type] = {"pairs": Pair, "figures": Figure, "conversations": Conversation}
ROWS = 2000
"""Rows of one shard; Parquet and tar files are one shard each."""


def import_dataset(
    source: Path | str,
    out: Path | str,
    *,
    kind: str = "",
    form: str = "",
    pictures: Path | str | None = None,
    picture: str = "",
    caption: str = "",
    name: str = "",
    licence: str = "unknown",
    workers: int = 1,
    runner: str = "native",
    progress: bool = True,
) -> Manifest:
    """Read pictures with captions, or conversations, into the dataset `out`.

    `source`: a CSV or TSV, JSON or JSON Lines, Parquet or WebDataset file, a folder of such files, or of pictures with texts
    beside them. `kind`: pairs (to train on), figures (to curate first) or conversations; by default what the first row is.
    `form`: one of `rows.FORMATS`, where a folder can be read in several ways. `pictures`: the folder of the pictures, if they lie
    elsewhere. `picture`, `caption`: columns with unusual names. `name`: of the set, in ids and as the source of rows that name no
    article. `licence`: of rows that name none.

    Every row is taken, or counted in the manifest with its reason. Raises BadSettings when nothing can be read.
    """
    source = Path(source)
    form, files = files_of(source, form)
    reader = reader_of(form)
    base = source if source.is_dir() else source.parent
    columns = fields.Columns(picture.strip(), caption.strip())
    kind = kind or _kind_of(files, form)
    if kind not in KINDS:
        raise BadSettings(f"--as {kind} is unknown; choose {', '.join(KINDS)}.")
    if form == "table" and kind != "conversations":
        for path in files:
            if first := next(reader(path), None):
                fields.require_columns(list(first.values), columns, path.name)
    roots = (base, *([Path(pictures)] if pictures else []))
    if pictures and not Path(pictures).is_dir():
        raise BadSettings(f"--pictures {pictures} is no folder.")
    settings = {"kind": kind, "form": form, "picture": picture, "caption": caption, "name": name, "licence": licence}
    work = ImportWork(
        form=form,
        kind=kind,
        roots=tuple(map(str, roots)),
        base=str(base),
        columns=columns,
        set_name=name or source.stem,
        licence=licence,
    )
    units = _units(files, form, work)
    return run_stage(
        out,
        stage="import",
        record=KINDS[kind],
        units=units,
        work=work,
        settings=settings,
        inputs=[str(source), *([str(pictures)] if pictures else [])],
        workers=workers,
        runner=runner,
        progress=progress,
    )


def _kind_of(files: list[Path], form: str) -> str:
    """What the first readable row is. Raises BadSettings when there is none."""
    fault = ""
    for path in files:
        try:
            for row in islice(reader_of(form)(path), 20):
                if not row.fault:
                    return "conversations" if chat.is_chat(row.values) else "pairs"
                fault = fault or f" {row.key}: {row.fault}."
        except BadInput as error:
            fault = fault or f" {error}."
    raise BadSettings(f"{files[0].name} holds no row that can be read.{fault}")


def _units(files: list[Path], form: str, work: ImportWork) -> list[Unit]:
    """A file, or `ROWS` rows of it, is one unit; its stamp changes with the file and with the pictures that lie there.

    Gives the work the names that are contested in each file.
    """
    pictures = work.files.by_name.values()
    listing = fingerprint({str(p): [(s := p.stat()).st_size, s.st_mtime_ns] for ps in pictures for p in ps})
    units = []
    for number, path in enumerate(files):
        rows = 1
        if form in ("table", "json", "folder"):
            names, rows = fields.FileNames(work.columns.picture), 0
            with contextlib.suppress(BadInput):  # which the work counts
                for row in reader_of(form)(path):
                    names.add(row.values)
                    rows += 1
            work.contested[str(path)] = frozenset(names.contested)
            rows = max(1, rows)
        stat = path.stat()
        stamp = fingerprint({"file": [str(path), stat.st_size, stat.st_mtime_ns], "pictures": listing})
        starts = range(0, rows, ROWS)
        units += [Unit(f"{number:05d}-{start // ROWS:05d}", [str(path), str(start)], stamp) for start in starts]
    return units


@dataclass
class ImportWork:
    """The work of one unit: a record, or a Dropped with the reason, for every row."""

    form: str
    kind: str
    roots: tuple[str, ...]
    base: str
    columns: fields.Columns
    set_name: str
    licence: str
    contested: dict[str, frozenset[str]] = field(default_factory=dict)  # of each file
    _reading: tuple[str, int, Iterator[RawRow]] | None = field(default=None, init=False, repr=False, compare=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_reading": None}

    @cached_property
    def files(self) -> fields.PictureFiles:
        return fields.PictureFiles.below(*map(Path, self.roots))

    def __call__(self, unit: Unit) -> Iterator[Any]:
        path, start = Path(unit.paths[0]), int(unit.paths[1])
        where = str(path.relative_to(self.base)) if path.is_relative_to(self.base) and path != Path(self.base) else path.name
        count = ROWS if self.form in ("table", "json", "folder") else None
        contents: set[str] = set()
        rows = self._rows_from(path, start)
        try:
            for row in islice(rows, count):
                yield from self._row(row, path, where, contents)
        except BadInput as error:
            yield Dropped(where, "unreadable-file", str(error))
        if count:
            self._reading = (str(path), start + count, rows)

    def _rows_from(self, path: Path, start: int) -> Iterator[RawRow]:
        """The rows of a file from one on. The unit that follows in the file goes on where this one stopped, so that a large file
        is read once and not again for each of its shards."""
        reading, self._reading = self._reading, None
        if reading and reading[:2] == (str(path), start):
            return reading[2]
        return islice(reader_of(self.form)(path), start, None)

    def _row(self, row: RawRow, path: Path, where: str, contents: set[str]) -> Iterator[Any]:
        place = f"{where}, {row.key}"
        if row.fault:
            yield Dropped(place, "unreadable-row", row.fault)
            return
        if chat.is_chat(row.values) != (self.kind == "conversations"):
            yield Dropped(place, "other-kind", f"not one of the {self.kind}")
            return
        own = fields.first_text(row.values, fields.ID)
        file = "" if self.base in (str(path), str(path.parent)) else f"/{where}"
        id_ = f"{self.set_name}{file}#{row.key.removeprefix('line ').removeprefix('row ')}{f':{own}' if own else ''}"
        try:
            if self.kind == "conversations":
                records: list[Any] = [self._conversation(row, path, id_)]
            else:
                records = list(self._pictures(row, path, id_))
        except _Unusable as error:
            yield Dropped(place, error.reason, str(error))
            return
        for record in records:
            key = _content_key(record)
            if key in contents:
                yield Dropped(place, "duplicate", "the same picture and words stand above")
            else:
                contents.add(key)
                yield record

    def _pictures(self, row: RawRow, path: Path, id_: str) -> Iterator[Pair | Figure]:
        captions = fields.captions_of(row.values, self.columns.caption)
        if row.pictures and not row.picture:
            raise _Unusable("several-pictures", f"it holds {len(row.pictures)} pictures")
        picture = self._picture(row.picture or None, row.values, path)
        if not captions:
            raise _Unusable("no-caption", "it has no caption")
        source = fields.source_of(row.values, self.set_name, self.licence)
        mark = Mark(step="import", by=self.form, note=f"{path.name}, {row.key}")
        group = fields.first_text(row.values, fields.GROUP) or picture.md5
        for n, caption in enumerate(captions):
            own = f"{id_}#{n}" if n else id_
            shared: dict[str, Any] = {
                "source": source,
                "image": picture.content,
                "md5": picture.md5,
                "width": picture.width,
                "height": picture.height,
            }
            if self.kind == "figures":
                yield Figure(figure_id=own, caption=caption, graphic=id_, trail=[mark], **shared)
            else:
                yield Pair(
                    pair_id=own,
                    figure_id=id_,
                    caption=caption,
                    original=caption,
                    label=fields.first_text(row.values, fields.LABEL),
                    group=group,
                    split=fields.split_of(row.values, path),
                    trail=[mark],
                    **shared,
                )

    def _near(self, path: Path) -> fields.Near:
        return fields.Near(path.parent, self.contested.get(str(path), frozenset()))

    def _picture(self, embedded: bytes | None, values: dict[str, Any], path: Path) -> pictures.CheckedPicture:
        try:
            content, name = (
                (embedded, "") if embedded else fields.picture_of(values, self.columns.picture, self.files, self._near(path))
            )
        except fields.SeveralPictures as error:
            raise _Unusable("several-pictures", str(error)) from error
        except (BadInput, OSError) as error:
            raise _Unusable("no-picture", str(error)) from error
        return _checked(content, name)

    def _conversation(self, row: RawRow, path: Path, id_: str) -> Conversation:
        try:
            talk = chat.chat_of(row.values)
        except BadInput as error:
            raise _Unusable("unreadable-conversation", str(error)) from error
        if values := [k for k in ("video", "videos", "audio", "audios") if row.values.get(k)]:
            raise _Unusable("other-medium", f"it has {values[0]}")
        near = self._near(path)
        contents = [(c, "") for c in row.pictures or ([row.picture] if row.picture else [])]
        try:
            if not contents:
                contents = [fields.content_of(v, self.files, near) for v in talk.pictures]
            if not contents:
                contents = fields.images_of(row.values, self.columns.picture, self.files, near)
        except (BadInput, OSError) as error:
            raise _Unusable("no-picture", str(error)) from error
        images = [_checked(content, name) for content, name in contents]
        try:
            turns = chat.with_marks(talk.turns, len(images))
        except BadInput as error:
            raise _Unusable("marks-and-pictures-differ", str(error)) from error
        calls = any(t.tool_calls for t in turns)
        several = sum(t.role == "user" for t in turns) > 1
        return Conversation(
            conversation_id=id_,
            kind="invoke" if calls else "converse" if several else "describe",
            turns=turns,
            images=[p.content for p in images],
            tools=talk.tools,
            source=fields.source_of(row.values, self.set_name, self.licence),
            group=fields.first_text(row.values, fields.GROUP) or (images[0].md5 if images else id_),
            split=fields.split_of(row.values, path),
            trail=[Mark(step="import", by=self.form, note=f"{path.name}, {row.key}")],
        )


class _Unusable(Exception):
    """A row that cannot be used; `reason` is counted."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def _checked(content: bytes, name: str) -> pictures.CheckedPicture:
    try:
        return pictures.check(content, name or "the picture")
    except BadInput as error:
        raise _Unusable("bad-picture", str(error)) from error


def _content_key(record: Any) -> str:
    if isinstance(record, Conversation):
        parts = [*record.images, *(f"{t.role}\0{t.content}\0{t.tool_calls}".encode() for t in record.turns)]
    else:
        parts = [record.md5.encode(), record.caption.encode()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()
