import csv
import importlib.util
from pathlib import Path

import pytest
from collect_samples import article_xml, fig

from pathasst.collect.jats import parse
from pathasst.collect.triage import THRESHOLD, score_text, worth_fetching

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "collect_triage.py"


@pytest.mark.parametrize(
    "caption",
    [
        "H&E staining of the tumour, ×200.",
        "Haematoxylin and eosin, original magnification x40.",
        "Immunohistochemistry for p53: strong nuclear expression.",
        "Papanicolaou smear with koilocytes.",
        "Peripheral blood film: schistocytes.",
        "Gross appearance of the resected specimen.",
        "Masson's trichrome shows fibrosis.",
        "Photomicrograph of the liver.",
        "Morphological images of the mouse ovarian tissue.",
        "Bone marrow aspirate, Giemsa.",
        "(A) Survival by group. (B) Representative Ki-67 stained sections.",
        "Fine needle aspiration cytology of the thyroid nodule.",
    ],
)
def test_what_may_show_pathology_is_wanted(caption: str) -> None:
    assert score_text(caption) >= THRESHOLD


@pytest.mark.parametrize(
    "caption",
    [
        "CONSORT flow diagram.",
        "Kaplan-Meier curves of overall survival in patients with breast cancer.",
        "Phylogenetic tree of the sequences.",
        "Axial CT shows a mass in the pancreatic head.",
        "Response sustained over 12 weeks; patients abstained.",
        "Mean heart rate ± SD in both groups.",
        "Schematic of the assay.",
        "",
    ],
)
def test_what_cannot_is_dropped(caption: str) -> None:
    assert score_text(caption) < THRESHOLD


def test_a_mention_can_save_a_bare_caption() -> None:
    text = "Patients were old. Histology confirmed the tumour (Figure 2). Figure 3 shows survival."
    assert score_text("Case 2.", [text], "Figure 2") >= THRESHOLD
    assert score_text("Case 2.", [text], "Figure 3") < THRESHOLD
    body = fig("f1", "Case 2.") + '<p>Histology confirmed it (<xref ref-type="fig" rid="f1">Figure 1</xref>).</p>'
    (figure,) = parse(article_xml(body), "a")[1]
    assert worth_fetching(figure) and not worth_fetching(figure, threshold=99)


@pytest.mark.real
def test_goals_on_captions_read_by_hand(real_data, monkeypatch) -> None:
    """The goals of the project: recall at least 0.98 while at least 70 % of the figures are dropped."""
    monkeypatch.syspath_prepend(BENCHMARK.parent)
    spec = importlib.util.spec_from_file_location("collect_triage", BENCHMARK)
    assert spec and spec.loader
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    captions = benchmark._captions(real_data)
    with (BENCHMARK.parent / "data/triage_labels.csv").open(newline="") as file:
        labels = [r for r in csv.DictReader(file) if r["stratum"] in benchmark.POPULATION]
    assert len(labels) >= 400
    rows = [(r["stratum"], r["label"], score_text(captions[r["id"]]["caption"]) >= THRESHOLD) for r in labels]
    assert benchmark._recall(rows, "y") >= 0.98
    assert sum(score_text(c["caption"]) < THRESHOLD for c in captions.values()) >= 0.70 * len(captions)
