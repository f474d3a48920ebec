"""A dataset described for others: Croissant metadata (JSON-LD) and a data card that a hub shows. Knows manifests and rows.

Both say what the manifest says: rows, licences, what was left out and why, the settings of the stage; nothing is made up.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from pathasst.core.files import write_atomic
from pathasst.core.records import NOTICE, Conversation, arrow_schema
from pathasst.dataset.manifest import Manifest
from pathasst.dataset.shards import read

CROISSANT, CARD = "croissant.json", "README.md"
_CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "dct": "http://purl.org/dc/terms/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
_TYPES = {"string": "sc:Text", "int64": "sc:Integer", "double": "sc:Float", "bool": "sc:Boolean"}


def describe(folder: Path | str, kind: type[Any], *, name: str = "", licence: str = "") -> dict[str, Any]:
    """Write `croissant.json` and `README.md` into a finished dataset's folder and return the Croissant object.

    `kind` is the dataset's record type, `licence` that of the whole; by default the one that all rows share. Raises BadDataset
    when the folder is no finished dataset.
    """
    folder = Path(folder)
    manifest, name = Manifest.load(folder), name or folder.resolve().name
    licences, splits = _counts(folder, kind)
    if not licence and len(licences) == 1:
        licence = next(iter(licences))
    croissant = _croissant(manifest, kind, name, licence)
    write_atomic(folder / CROISSANT, (json.dumps(croissant, indent=1, ensure_ascii=False) + "\n").encode())
    write_atomic(folder / CARD, _card(manifest, name, licence, licences, splits).encode())
    return croissant


def _counts(folder: Path, kind: type[Any]) -> tuple[Counter[str], Counter[str]]:
    """Rows by licence and by split."""
    licences: Counter[str] = Counter()
    splits: Counter[str] = Counter()
    names = arrow_schema(kind).names
    columns = [c for c in ("source", "split") if c in names]
    required = [n for n in names if n.endswith("_id") and n != "pair_id"] + (["pair_id"] if "pair_id" in names else [])
    extra = ["kind", "turns"] if kind is Conversation else []
    for record in read(folder, kind, [*columns, *required, *extra]):
        source = getattr(record, "source", None)
        licences[source.licence if source else "unknown"] += 1
        splits[getattr(record, "split", "train")] += 1
    return licences, splits


def _croissant(manifest: Manifest, kind: type, name: str, licence: str) -> dict[str, Any]:
    files = [
        {
            "@type": "cr:FileObject",
            "@id": s.shard,
            "name": s.shard,
            "contentUrl": s.shard,
            "contentSize": f"{s.bytes} B",
            "encodingFormat": "application/x-parquet",
            "sha256": s.sha256,
        }
        for s in manifest.shards
    ]
    shards = {
        "@type": "cr:FileSet",
        "@id": "shards",
        "name": "shards",
        "encodingFormat": "application/x-parquet",
        "includes": "*.parquet",
    }
    fields = [field for column in arrow_schema(kind) for field in _fields(column)]
    record_set = {"@type": "cr:RecordSet", "@id": "rows", "name": "rows", "field": fields}
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": name,
        "description": f"{manifest.rows} {manifest.record} rows of the stage {manifest.stage} of PathAsst. {NOTICE}",
        "version": "1.0.0",
        "license": licence or "per row: column source.licence",
        "distribution": [*files, shards],
        "recordSet": [record_set],
    }


def _fields(column: Any) -> list[dict[str, Any]]:
    """A column as fields: a picture as one, a record as one for each of its values ("source.licence"), a list of records as none.

    Croissant 1.0 has no lists of records; they are read from the Parquet files themselves.
    """
    import pyarrow as pa

    if pa.types.is_struct(column.type):
        if {f.name for f in column.type} == {"bytes", "path"}:
            return [_field(column.name, column.name, "sc:ImageObject", "bytes")]
        plain = [f for f in column.type if not pa.types.is_nested(f.type)]
        return [_field(f"{column.name}.{f.name}", column.name, _TYPES.get(str(f.type), "sc:Text"), f.name) for f in plain]
    if not pa.types.is_list(column.type):
        return [_field(column.name, column.name, _TYPES.get(str(column.type), "sc:Text"))]
    if pa.types.is_nested(column.type.value_type):
        return []
    return [{**_field(column.name, column.name, _TYPES.get(str(column.type.value_type), "sc:Text")), "repeated": True}]


def _field(name: str, column: str, data_type: str, member: str = "") -> dict[str, Any]:
    source: dict[str, Any] = {"fileSet": {"@id": "shards"}, "extract": {"column": column}}
    if member:
        source["transform"] = {"jsonPath": member}
    return {"@type": "cr:Field", "@id": f"rows/{name}", "name": f"rows/{name}", "dataType": data_type, "source": source}


def _card(manifest: Manifest, name: str, licence: str, licences: Counter[str], splits: Counter[str]) -> str:
    head = {
        "pretty_name": json.dumps(name),
        "license": licence.lower() if licence.startswith("CC") else "other",
        "tags": "[pathology, medical, image-text]",
        "configs": "[{config_name: default, data_files: '*.parquet'}]",
    }
    lines = ["---", *(f"{k}: {v}" for k, v in head.items()), "---", f"# {name}", ""]
    lines += [
        f"{manifest.rows} {manifest.record} rows, written by the stage `{manifest.stage}` of PathAsst {manifest.version}.",
        "",
    ]
    lines += [NOTICE, "", "| split | rows |", "|---|---|", *(f"| {k} | {n} |" for k, n in sorted(splits.items())), ""]
    lines += ["| licence | rows |", "|---|---|", *(f"| {k} | {n} |" for k, n in licences.most_common()), ""]
    lines += ["Each row names its own source and licence (column `source`); redistribute only what that licence allows.", ""]
    if manifest.dropped:
        lines += ["| left out because | items |", "|---|---|", *(f"| {k} | {n} |" for k, n in manifest.dropped.most_common()), ""]
    lines += [
        "## How it was made",
        "",
        "```json",
        json.dumps(manifest.settings, indent=1, ensure_ascii=False, default=str),
        "```",
    ]
    lines += ["", "Inputs: " + (", ".join(f"`{Path(i).name}`" for i in manifest.inputs) or "none named") + "."]
    return "\n".join(lines) + "\n"
