from __future__ import annotations

import pytest

from pathasst.curate.captions.refine import check, refine
from pathasst.curate.captions.verify import is_verbatim, lost_negation, new_facts


@pytest.mark.parametrize(
    ("caption", "wanted"),
    [
        ("Tumour cells (H&E, ×400).", "Tumour cells (H&E)."),
        ("Tumour cells (hematoxylin and eosin, original magnification 100*).", "Tumour cells (hematoxylin and eosin)."),
        ("Clear cells. Scale bar = 50 µm.", "Clear cells."),
        ("Clear cells, 20x magnification.", "Clear cells."),
        ("A 45-year-old woman with carcinoma of the breast.", "Carcinoma of the breast."),
        ("Nests of tumour cells [12] as shown in Figure 2B.", "Nests of tumour cells."),
        ("Increased nuclei (p < 0.001) in tumours (n = 12).", "Increased nuclei in tumours."),
        ("Atrial mass of 6.6 × 3.1 cm.", "Atrial mass of 6.6 × 3.1 cm."),
        ("Original magnification ×40.", ""),
        ("Nodule LM × 1000. (Micrograph provided by the Regents of the University © 2012)", "Nodule."),
        ("Muscle fibers. From top, LM × 1600, LM × 1600. (Micrographs provided by a school © 2012)", "Muscle fibers."),
        ("Tubules, EM × 8000. (credit a: modification of work by NCI)", "Tubules, EM."),
        ("Carcinoma (H&E, ×400). Courtesy of Dr. J. Smith.", "Carcinoma (H&E)."),
        ("Dermatofibroma. H&E. 40x. Contributed by Mark Smith, MD.", "Dermatofibroma. H&E."),
        ("Necrosis is present. © 2015 Elsevier.", "Necrosis is present."),
        ("Image source: Public Health Image Library.", ""),
    ],
)
def test_what_cannot_be_seen_goes_and_the_rest_stays(caption, wanted):
    assert refine(caption).text == wanted


def test_no_refinement_states_anything_new():
    for caption in ("Glands of a 60-year-old man, ×40. Arrow: mitosis.", "No tumour is seen (H&E, 20×)."):
        assert not new_facts(refine(caption).text, caption)


def test_a_new_finding_number_or_a_lost_negation_gives_the_source_back():
    assert check("Tumour with necrosis.", "Tumour.").text == "Tumour."
    assert check("Tumour of 3 cm.", "Tumour of 2 cm.").new == ("3",)
    lost = check("Staining for CD20.", "No staining for CD20.")
    assert lost.text == "No staining for CD20."
    assert lost.reason


def test_function_words_and_other_endings_are_not_new():
    assert new_facts("The image shows stained nuclei.", "Staining of nuclei") == []
    assert new_facts("An image with malignant cells.", "Cells.") == ["malignant"]


def test_negation_is_only_lost_when_its_phrase_is_kept():
    assert lost_negation("Tumour cells in vessels.", "No tumour cells in vessels.")
    assert not lost_negation("Lymphocytes.", "Lymphocytes. No tumour cells.")


@pytest.mark.parametrize(
    ("part", "source", "verdict"),
    [
        ("Glands in stroma", "Glands (a) in the stroma.", True),
        ("stroma glands", "Glands in stroma", False),
        ("Glands and necrosis", "Glands in stroma", False),
        ("tissues", "human tissuesA) Expression", True),
        ("art", "heartbeats", False),
    ],
)
def test_verbatim_means_the_same_words_in_the_same_order(part, source, verdict):
    assert is_verbatim(part, source) is verdict
