"""Figures with captions out of PDFs, against the JATS captions of the same articles; digital, and the same pages as scans.

    PATHASST_DATA=<samples> python benchmarks/collect_books.py [--scan] [--pages figures|all]

A pair is right when a figure body was found and the caption shares more than half of its tokens with the JATS caption of the same
number. Recall: right pairs of all JATS figures; precision: right pairs of all pairs given; token F1: bag of tokens after NFKC and
lower case, mean over right pairs. `--scan`: every page is first rendered at 200 dpi and read by OCR and layout detector alone;
`--pages figures` (default) takes only pages on which the digital run found a caption, `all` every page.
"""

from __future__ import annotations

import os
import re
import time
import unicodedata
from collections import Counter
from pathlib import Path

from measured import command_line, save

from pathasst.collect import book_pdf, page_layout
from pathasst.collect.jats import parse
from pathasst.core.statistics import wilson


def _tokens(text: str) -> Counter[str]:
    return Counter(re.findall(r"\w+|[^\w\s]", unicodedata.normalize("NFKC", text).lower()))


def _f1(a: str, b: str) -> float:
    left, right = _tokens(a), _tokens(b)
    shared = sum((left & right).values())
    return 2 * shared / (sum(left.values()) + sum(right.values())) if shared else 0.0


def _truth(xml: Path) -> dict[str, str]:
    figures = parse(xml.read_bytes(), xml.name)[1]
    return {m[0]: f.caption for f in figures if (m := re.search(r"\d+", f.label))}


def _found(path: Path, scan: bool, only_figures: bool) -> list[page_layout.CaptionedArea]:
    with book_pdf.opened(path.read_bytes(), path.name) as document:
        pages = [book_pdf.read_page(p) for p in document]
        if scan:
            from pathasst.collect.book_scan import read_scan

            for number, page in enumerate(document):
                wanted = not only_figures or page_layout.captions_of(pages[number])
                start = time.perf_counter()
                pages[number] = (
                    read_scan(book_pdf.render(page, None, 200), *page.get_size())
                    if wanted
                    else page_layout.Page(*page.get_size())
                )
                if wanted:
                    print(f"  {path.name} page {number + 1} read in {time.perf_counter() - start:.0f} s", flush=True)
        return [f for items in page_layout.across_pages(pages, [page_layout.figures_of(p) for p in pages]) for f in items]


def _main() -> None:
    options = command_line(__doc__)
    options.add_argument("--data", default=os.environ.get("PATHASST_DATA", ""))
    options.add_argument("--scan", action="store_true")
    options.add_argument("--pages", choices=["figures", "all"], default="figures")
    arguments = options.parse_args()
    if not arguments.data:
        raise SystemExit("Set PATHASST_DATA, or give --data.")
    right = given = total = 0
    scores: list[float] = []
    start = time.perf_counter()
    paths = sorted(Path(arguments.data).glob("articles/pdf/*.pdf"))
    for path in paths:
        truth = _truth(Path(arguments.data) / "articles/xml" / f"{path.stem}.xml")
        seen: set[str] = set()
        for item in _found(path, arguments.scan, arguments.pages == "figures"):
            number = item.caption.number
            score = _f1(item.caption.text, truth.get(number, ""))
            good = item.box is not None and score > 0.5 and number not in seen
            seen.add(number)
            given, right = given + (item.box is not None), right + good
            if good:
                scores.append(score)
            if not good or score < 0.95:
                print(
                    f"  {path.stem} {item.caption.label}: {item.where or 'no body'}, F1 {score:.2f}: {item.caption.text[:90]}",
                    flush=True,
                )
        total += len(truth)
        for number in sorted(truth.keys() - seen):
            print(f"  {path.stem} Figure {number}: caption not found", flush=True)
    f1 = sum(scores) / max(1, len(scores))
    print(f"recall {wilson(right, total)}; precision {wilson(right, given)}; token F1 {f1:.4f}")
    print(f"{time.perf_counter() - start:.1f} s of wall time (the machine was shared)")
    counts = {"articles": len(paths), "figures": total}
    save(arguments.json, counts | {"recall": wilson(right, total), "precision": wilson(right, given), "f1": f1})


if __name__ == "__main__":
    _main()
