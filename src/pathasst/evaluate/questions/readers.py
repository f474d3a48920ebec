"""The public layouts of questions → items. Each reader says what it looked for and what it saw when a layout differs.

A reader gets the set's folder and a split, and gives the items and how many were left out because their picture is missing.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from pathasst.core.errors import BadDataset
from pathasst.core.tables import first, lines_of, read_table
from pathasst.evaluate import pathvqa_data
from pathasst.evaluate.predictions import key_of
from pathasst.evaluate.questions.item import LETTERS, QuestionItem
from pathasst.imaging.pictures import SUFFIXES

Reader = Callable[[Path, str], list[QuestionItem]]
_PREFIX = re.compile(r"^\s*\(?([A-Z])\s*[).:]\s*")
RADIOLOGY_TYPES = ("abn", "pres")
"""VQA-RAD's question types that ask for disease: abnormality and presence. It has no part of its own for pathology."""


def pathmmu(folder: Path, split: str) -> list[QuestionItem]:
    """`data.json`: {subset: {val|test|test_tiny: [{question, options, answer, img}]}} and the pictures, anywhere below.

    Subsets: PubMed, SocialPath, EduContent, Atlas, PathCLS. Atlas names its picture `source_img` (of ARCH's books).
    """
    path = next(iter(sorted(folder.rglob("data.json"))), None) or _wrong(folder, "data.json")
    data = _json(path)
    if not isinstance(data, dict):
        _wrong(folder, "data.json with a subset's name for every list")
    pictures, items = _pictures(folder), []
    for subset, splits in data.items():
        for n, row in enumerate(splits.get(split, []) if isinstance(splits, dict) else []):
            try:
                choices = _options(row["options"])
                name = str(row.get("img") or row["source_img"])
                answer = _choice(choices, str(row["answer"]))
            except (KeyError, TypeError, ValueError) as error:
                raise BadDataset(
                    f"{path.name}, {subset}, item {n}: expected question, options, answer, img; {error!r}"
                ) from error
            id = f"{subset}/{row.get('No', n)}"
            items.append(_item(id, row["question"], answer, choices, [name], pictures, subset))
    return items or _wrong(folder, f"questions of split {split} in data.json (val, test, test_tiny)")


def quilt_vqa(folder: Path, split: str) -> list[QuestionItem]:
    """The hub's Parquet (image, question, answer, answer_type), or a JSON list or JSONL of image, question, answer, and pictures.

    Quilt-VQA and its red-circle part (QuiltVQA_RED) have the same form.
    """
    if tables := sorted(folder.rglob("*.parquet")):
        return list(_of_parquet(tables, "image", ("question", "answer")))
    paths = [p for p in sorted([*folder.rglob("*.json"), *folder.rglob("*.jsonl")]) if "wo_ans" not in p.name]
    pictures, items = _pictures(folder), []
    for path in paths:
        for n, row in enumerate(_list(path)):
            if isinstance(row, dict) and {"image", "answer"} <= set(row):
                text = row.get("question") or row.get("text") or ""
                items.append(_item(f"{path.stem}/{n}", text, row["answer"], (), [row["image"]], pictures))
    return items or _wrong(folder, "Parquet files, or a JSON list of image, question, answer (quiltvqa_test_w_ans.json)")


def pmc_vqa(folder: Path, split: str) -> list[QuestionItem]:
    """`test_clean.csv`, `test_2.csv` or `test.csv` (Figure_path, Question, Choice A…D, Answer_label), and the figures."""
    path = next((p for n in (f"{split}_clean", f"{split}_2", split) for p in sorted(folder.rglob(f"{n}.csv"))), None)
    if path is None:
        _wrong(folder, f"{split}_clean.csv, {split}_2.csv or {split}.csv")
    names, rows = read_table(path)
    pictures, items = _pictures(folder), []
    try:
        for n, row in rows:
            choices = tuple(_PREFIX.sub("", row[f"choice {letter}"]).strip() for letter in "abcd")
            label = first(row, ("answer_label", "answer label", "answer"))
            items.append(_item(f"{n}", row["question"], _choice(choices, label), choices, [row["figure_path"]], pictures))
    except (KeyError, ValueError, csv.Error) as error:
        raise BadDataset(
            f"{path.name}: expected Figure_path, Question, Choice A…D, Answer_label; it has {', '.join(names)}; {error!r}"
        ) from error
    return items or _wrong(folder, f"rows in {path.name}")


def vqa_rad(folder: Path, split: str) -> list[QuestionItem]:
    """`VQA_RAD Dataset Public.json` (image_name, question, answer, question_type, phrase_type) and the radiographs.

    Of its test questions (phrase types that begin with test) those of types ABN and PRES, which ask for disease.
    """
    path = next(iter(sorted(folder.rglob("*VQA*RAD*.json"))), None)
    if path is None:
        _wrong(folder, "VQA_RAD Dataset Public.json")
    pictures, items = _pictures(folder), []
    for n, row in enumerate(_list(path)):
        try:
            types = {t.strip().lower() for t in str(row["question_type"]).split(",")}
            in_split = str(row.get("phrase_type", "")).startswith("test") == (split == "test")
            if in_split and types & set(RADIOLOGY_TYPES):
                items.append(_item(f"{row.get('qid', n)}", row["question"], row["answer"], (), [row["image_name"]], pictures))
        except (KeyError, TypeError) as error:
            raise BadDataset(f"{path.name}, item {n}: expected image_name, question, answer, question_type; {error!r}") from error
    return items or _wrong(folder, f"{split} questions of types {', '.join(RADIOLOGY_TYPES)} in {path.name}")


def path_vqa(folder: Path, split: str) -> list[QuestionItem]:
    """PathVQA's second version, without repeated pictures (the hub's Parquet), or the first (the authors' pickles)."""
    rows, _ = pathvqa_data.questions(folder, split)
    return [
        QuestionItem(id=f"{n}", question=q.question, answer=q.answer, pictures=(q.picture,), cluster=q.image)
        for n, q in enumerate(rows)
    ]


def medxpertqa(folder: Path, split: str) -> list[QuestionItem]:
    """`MM/test.jsonl` (id, question, options {letter: text}, label, images) and `images/`; several pictures a question."""
    path = next((p for p in sorted(folder.rglob(f"{split}.jsonl")) if "Text" not in p.parts), None)
    if path is None:
        _wrong(folder, f"MM/{split}.jsonl")
    pictures, items = _pictures(folder), []
    for n, row in enumerate(_list(path)):
        try:
            choices = _options(row["options"])
            question = str(row["question"]).split("\nAnswer Choices:")[0]
            answer = _choice(choices, str(row["label"]))
            items.append(
                _item(str(row.get("id", n)), question, answer, choices, row["images"], pictures, row.get("body_system", ""))
            )
        except (KeyError, TypeError, ValueError) as error:
            raise BadDataset(f"{path.name}, line {n + 1}: expected question, options, label, images; {error!r}") from error
    return items or _wrong(folder, f"rows in {path.name}")


def jsonl(path: Path, split: str = "") -> list[QuestionItem]:
    """Any JSONL: question, answer (a letter, a number from 0, or the text), and where there are: choices (a list, or letter →
    text), image or images (paths relative to the file), id, cluster (or patient), subset."""
    if not path.is_file():
        raise BadDataset(f"there is no file {path}. Expected: JSONL of question, choices, answer, image.")
    items = []
    for n, row in enumerate(_list(path), 1):
        try:
            choices = _options(row["choices"]) if row.get("choices") else ()
            names = row.get("images") or ([row["image"]] if row.get("image") else [])
            answer = row["answer"]
            if choices and isinstance(answer, int):
                answer = choices[answer]
            elif choices:
                answer = _choice(choices, str(answer))
            items.append(
                QuestionItem(
                    id=str(row.get("id", n)),
                    question=str(row["question"]),
                    answer=str(answer),
                    choices=choices,
                    pictures=tuple(path.parent / str(name) for name in names),
                    cluster=str(row.get("cluster") or row.get("patient") or (names[0] if names else n)),
                    subset=str(row.get("subset", "")),
                )
            )
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise BadDataset(f"{path}, line {n}: expected question, choices, answer, image; {error!r}") from error
    if not items:
        raise BadDataset(f"{path} holds no questions.")
    return items


READERS: dict[str, Reader] = {
    "pathmmu": pathmmu,
    "quilt-vqa": quilt_vqa,
    "quilt-vqa-red": quilt_vqa,
    "pmc-vqa": pmc_vqa,
    "vqa-rad": vqa_rad,
    "pathvqa": path_vqa,
    "medxpertqa-mm": medxpertqa,
}
"""Id of a set → what reads its public layout."""


def with_pictures(items: Sequence[QuestionItem]) -> tuple[list[QuestionItem], int]:
    """The items whose pictures are all there, and how many were left out."""
    usable = [i for i in items if all(isinstance(p, bytes) or p.is_file() for p in i.pictures)]
    return usable, len(items) - len(usable)


def _item(
    id: str,
    question: Any,
    answer: Any,
    choices: tuple[str, ...],
    names: Sequence[Any],
    pictures: Mapping[str, Path],
    subset: str = "",
) -> QuestionItem:
    """An item whose pictures are looked up by name; one that is nowhere keeps a path that does not exist."""
    files = tuple(pictures.get(Path(str(n)).name) or pictures.get(f"{n}") or Path(str(n)) for n in names)
    return QuestionItem(
        id=id,
        question=str(question).replace("<image>", "").strip(),
        answer=str(answer),
        choices=choices,
        pictures=files,
        cluster=str(names[0]) if names else id,
        subset=str(subset),
    )


def _options(values: Any) -> tuple[str, ...]:
    """Choices without letters: a list, or letter → text in the order of the letters."""
    texts = [values[k] for k in sorted(values)] if isinstance(values, dict) else list(values)
    texts = [str(t).strip() for t in texts]
    lettered = [m[1] if (m := _PREFIX.match(t)) else "" for t in texts]
    if lettered == list(LETTERS[: len(texts)]):
        texts = [_PREFIX.sub("", t).strip() for t in texts]
    if len(texts) < 2 or len(texts) > len(LETTERS):
        raise ValueError(f"{len(texts)} choices")
    return tuple(texts)


def _choice(choices: Sequence[str], answer: str) -> str:
    """The text of the right choice, which data name by letter, by letter and text, or by text. Raises ValueError."""
    text = answer.strip()
    if text in choices:
        return text
    letter = re.match(r"^\(?([A-Z])(?:\W|$)", text)
    if letter and LETTERS.index(letter[1]) < len(choices):
        return choices[LETTERS.index(letter[1])]
    same = [c for c in choices if c.lower() == text.lower()]
    if not same:
        raise ValueError(f"the answer {answer!r} is none of the choices {list(choices)}")
    return same[0]


def _of_parquet(tables: Sequence[Path], image: str, columns: Sequence[str]) -> Iterator[QuestionItem]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    for path in tables:
        try:
            for batch in pq.ParquetFile(path).iter_batches(256, columns=[image, *columns]):
                for n, row in enumerate(batch.to_pylist()):
                    content = (row[image] or {}).get("bytes") or b""
                    id = f"{path.stem}/{key_of(content, row['question'])[:12]}"
                    yield QuestionItem(
                        id=id,
                        question=str(row["question"]).replace("<image>", "").strip(),
                        answer=str(row["answer"]),
                        pictures=(content or Path("missing"),),
                        cluster=key_of(content) if content else str(n),
                    )
        except (pa.ArrowException, KeyError, ValueError, AttributeError) as error:
            raise BadDataset(f"{path.name}: expected the columns {image}, {', '.join(columns)}; {error}") from error


def _pictures(folder: Path) -> dict[str, Path]:
    """Name, and name without suffix, → file."""
    files = [p for p in sorted(folder.rglob("*")) if p.suffix.lower() in SUFFIXES]
    return {p.stem: p for p in files} | {p.name: p for p in files}


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadDataset(f"{path} is no JSON: {error}") from error


def _list(path: Path) -> list[Any]:
    """The rows of a JSON list or of JSON lines. Raises BadDataset."""
    if path.suffix != ".jsonl":
        rows = _json(path)
        return rows if isinstance(rows, list) else []
    try:
        return [json.loads(line) for line in lines_of(path.read_text(encoding="utf-8")) if line.strip()]
    except (OSError, ValueError) as error:
        raise BadDataset(f"{path} is no JSONL: {error}") from error


def _wrong(folder: Path, expected: str) -> NoReturn:
    """Raise BadDataset: what was looked for, and what the folder holds instead."""
    entries = sorted(p.name + "/" * p.is_dir() for p in folder.iterdir()) if folder.is_dir() else []
    raise BadDataset(f"{folder}: expected {expected}; it holds {', '.join(entries[:8]) or 'nothing'}.")
