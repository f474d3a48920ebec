from __future__ import annotations

import pytest

from pathasst.curate.captions.split import split
from pathasst.curate.captions.verify import is_verbatim

CASES = [
    ("Kidney. (A) Glomeruli. (B) Tubules. Scale bars: 50 µm.", {"A": "Glomeruli", "B": "Tubules"}),
    ("Kidney: A) glomeruli, B) tubules and C) vessels.", {"A": "glomeruli", "B": "tubules", "C": "vessels"}),
    ("Kidney. A: Glomeruli. B: Tubules.", {"A": "Glomeruli", "B": "Tubules"}),
    ("Kidney. A. Glomeruli are large. B. Tubules are pale.", {"A": "Glomeruli are large", "B": "Tubules are pale"}),
    ("Kidney. A, glomeruli; B, tubules.", {"A": "glomeruli", "B": "tubules"}),
    ("a Clear glomeruli. b Pale tubules.", {"A": "Clear glomeruli", "B": "Pale tubules"}),
    ("Glomeruli are large (a). Tubules are pale (b).", {"A": "Glomeruli are large", "B": "Tubules are pale"}),
    ("Renal tissue.(a) Glomeruli, (b) tubules.", {"A": "Glomeruli", "B": "tubules"}),
    ("Panel A: glomeruli. Panel B: tubules.", {"A": "glomeruli", "B": "tubules"}),
    ("In A, glomeruli. In B, tubules.", {"A": "glomeruli", "B": "tubules"}),
    ("Renal biopsy with scarring (A, arrow) and oedema (B, arrowhead).", {"A": "scarring", "B": "oedema"}),
    ("Drift 2A Body, dorsal 2B Body, ventral.", {"A": "dorsal", "B": "ventral"}),
]


@pytest.mark.parametrize(("caption", "own"), CASES)
def test_each_printed_style_gives_each_panel_its_words(caption, own):
    found = {s.letter: s.text for s in split(caption)}
    assert set(found) == set(own)
    for letter, words in own.items():
        others = [w for x, w in own.items() if x != letter]
        assert words in found[letter]
        assert not any(o in found[letter] for o in others if o not in words)


def test_a_lead_in_and_a_closing_scale_bar_belong_to_all():
    parts = split("Renal biopsies. (A) Glomeruli. (B) Tubules. Original magnification ×200.")
    assert all(s.text.startswith("Renal biopsies.") and s.text.endswith("Original magnification ×200.") for s in parts)
    assert [s.own for s in parts] == ["Glomeruli.", "Tubules."]


def test_ranges_and_lists_give_their_words_to_every_letter_in_them():
    parts = {s.letter: s.text for s in split("(A–C) Tumour cells. (D and E) Stroma. (F) Vessel.")}
    assert parts["B"] == parts["A"] == "Tumour cells."
    assert parts["E"] == "Stroma."
    assert {s.letter for s in split("Views of (a)–(c) the liver and (d) the spleen.")} == set("ABCD")


def test_a_reference_to_another_panel_is_not_a_new_panel():
    parts = {s.letter: s.text for s in split("(A) Tumour at low power. (B) Same area as in (A) at high power. (C) Stroma.")}
    assert parts["B"] == "Same area as in (A) at high power."
    assert "high power" not in parts["A"]


def test_panels_with_an_arrow_beside_their_letter_are_found():
    parts = {s.letter: s.text for s in split("Large ovary (a). Bleeding (b, arrow). No enhancement (c, white arrow).")}
    assert parts == {"A": "Large ovary", "B": "Bleeding", "C": "No enhancement"}


def test_a_list_inside_the_caption_keeps_its_own_lead_and_tail():
    caption = "Ovary. FOXG1 in (A) benign, (B) mucinous and (C) serous cancers. (D) Localisation of FOXG1."
    parts = {s.letter: s.text for s in split(caption)}
    assert parts["A"] == "Ovary. FOXG1 in benign cancers."
    assert parts["D"] == "Ovary. Localisation of FOXG1."


def test_a_predicate_after_a_letter_belongs_to_that_panel():
    parts = {
        s.letter: s.text for s in split("Ultrasound (A) shows a worm inside the cyst, and Doppler (B) shows vessels at its edge.")
    }
    assert parts == {"A": "Ultrasound shows a worm inside the cyst", "B": "Doppler shows vessels at its edge."}


def test_scale_bars_go_to_the_panels_that_they_name():
    parts = {s.letter: s.text for s in split("Skin. (A) Nests. (B) Stroma. Magnification: ×200 (A) and ×400 (B).")}
    assert parts == {"A": "Skin. Nests. Magnification: ×200", "B": "Skin. Stroma. Magnification: ×400"}


def test_a_remark_that_each_panel_has_of_its_own_is_not_shared():
    parts = {s.letter: s.text for s in split("Skin. (A) Nests. Scale bar, 9 µm. (B) Stroma. Scale bar, 5 µm.")}
    assert parts == {"A": "Skin. Nests. Scale bar, 9 µm.", "B": "Skin. Stroma. Scale bar, 5 µm."}


def test_a_stop_after_each_letter_does_not_part_it_from_its_words():
    parts = {s.letter: s.text for s in split("Rab3D in tumours (A). Blot of cells. (B). Stained tissue. (C). Survival.")}
    assert parts == {
        x: f"Rab3D in tumours. {w}" for x, w in (("A", "Blot of cells."), ("B", "Stained tissue."), ("C", "Survival."))
    }


def test_roman_numerals_and_numbers_name_panels_where_letters_do_not():
    assert [s.letter for s in split("Liver. (i) Control. (ii) Treated. (iii) Both.")] == ["I", "II", "III"]
    caption = "1–2 Salganea, male: 1 dorsal view 2 ventral view 3–4 Panesthia, nymph: 3 dorsal view 4 ventral view."
    parts = {s.letter: s.text for s in split(caption)}
    assert list(parts) == ["1", "2", "3", "4"]
    assert "Salganea, male" in parts["2"] and "ventral" in parts["2"] and "dorsal" not in parts["2"]
    assert [s.letter for s in split("The study had (i) a trial and (ii) a survey.")] == [""]
    assert [s.letter for s in split("Growth in 1 week 2 weeks 3 weeks and 4 weeks.")] == [""]


def test_an_abbreviation_in_brackets_does_not_extend_the_panels():
    parts = split("(A) Cells with curcumin. (B) Cells with curcumin (C) and its conjugate after 6 h.")
    assert [s.letter for s in parts] == ["A", "B"]


def test_panels_inside_a_panel_stay_in_it():
    parts = {s.letter: s.text for s in split("A, Cells at (a) 1 h and (b) 2 h. B, Mice at (a) 1 d and (b) 2 d.")}
    assert set(parts) == {"A", "B"}
    assert "2 h" in parts["A"]
    assert "Mice" in parts["B"]


def test_words_after_the_last_short_item_belong_to_the_whole_list():
    parts = {s.letter: s.text for s in split("(A) Weak, (B) moderate and (C) strong staining of tumour cells for GPER-1.")}
    assert parts["A"] == "Weak staining of tumour cells for GPER-1."
    assert parts["C"] == "strong staining of tumour cells for GPER-1."


def test_a_sentence_that_opens_a_new_group_is_shared_by_that_group_alone():
    caption = "Tissues: A) benign prostate, B) tumour. Bladder sections are from C) normal bladder, D) tumour."
    parts = {s.letter: s.text for s in split(caption)}
    assert "Bladder" in parts["C"]
    assert "Bladder" in parts["D"]
    assert "Bladder" not in parts["B"]


@pytest.mark.parametrize(
    "caption",
    [
        "A 57-year-old woman with a tumour of the breast.",
        "Haematoxylin and eosin (H&E) stain of the liver (×400).",
        "Growth of E. coli and B. subtilis in medium.",
        "Vitamin A and B levels were measured in all patients.",
        "Canal transportation = (a1 − a2) − (b1 − b2).",
        "",
    ],
)
def test_a_caption_without_panels_stays_whole(caption):
    parts = split(caption)
    assert [(s.letter, s.text) for s in parts] == [("", caption)]


def test_places_name_panels_where_letters_do_not():
    parts = {s.letter: s.text for s in split("Survival (left) and relapse (right) after surgery.")}
    assert parts == {"LEFT": "Survival after surgery", "RIGHT": "relapse after surgery"}
    parts = split("Top row: tumour. Bottom row: stroma.")
    assert [s.letter for s in parts] == ["TOP", "BOTTOM"]


def test_letters_of_the_picture_settle_what_the_caption_leaves_open():
    assert [s.letter for s in split("Impressions of the jaw.", ["A", "B"])] == ["A", "B"]
    parts = {s.letter: s.text for s in split("Jaw. (A) Left. (B) Right.", ["A", "B", "C"])}
    assert parts["C"] == "Jaw."


@pytest.mark.parametrize(("caption", "own"), CASES)
def test_every_sub_caption_is_verbatim(caption, own):
    assert all(is_verbatim(s.text, caption) for s in split(caption))


def test_a_caption_may_change_from_letters_before_to_letters_after_their_words():
    caption = "Angiogram in (a) AP and (b) lateral views of the tumor. A venous phase (c) shows a blush. A view (d) shows none."
    parts = {s.letter: s.text for s in split(caption)}
    assert list(parts) == ["A", "B", "C", "D"]
    assert "AP" in parts["A"] and "lateral" not in parts["A"]
    assert "blush" in parts["C"] and "blush" not in parts["D"]


def test_a_few_words_that_open_a_list_belong_to_the_list_and_not_to_the_panel_before():
    parts = {s.letter: s.text for s in split("(A) Melanoma, H&E. Positive stains; (B) S100, (C) Mart 1 and (D) HMB45.")}
    assert "Positive" not in parts["A"]
    assert parts["C"] == "Positive stains. Mart 1"
    full = split("(a) Smear of cells. The artificial material caused a false result; (b) normal tissue.")
    assert "artificial" in full[0].text


def test_a_bracket_before_a_letter_is_no_stop():
    caption = "Cells were counted. Drug reduced them (A). Heat (dashed line) reduced them more (solid line) (B)."
    parts = {s.letter: s.text for s in split(caption)}
    assert "Heat" in parts["B"] and "Heat" not in parts["A"]


def test_a_long_first_item_is_not_cut_within_a_phrase():
    parts = {s.letter: s.text for s in split("Stenosis in the branch of the left artery (A) and slight lesions in another (B).")}
    assert parts["A"] == "Stenosis in the branch of the left artery"
    parts = {s.letter: s.text for s in split("Fistula between the cervical oesophagus (A) and the left main bronchus (B).")}
    assert parts["B"] == "Fistula between the left main bronchus"


def panels(caption: str) -> dict[str, str]:
    return {s.letter: s.text for s in split(caption)}


def test_a_marker_after_a_bracket_that_closes_a_sentence_belongs_to_that_sentence():
    caption = "Inflammation. None, grade 0 (H&E, ×100) (a). Scattered cells, grade 1 (H&E, ×100) (b). Dense infiltrate (PAS) (c)."
    found = panels(caption)
    assert found["A"] == "Inflammation. None, grade 0 (H&E, ×100)"
    assert found["B"] == "Inflammation. Scattered cells, grade 1 (H&E, ×100)"
    assert found["C"] == "Inflammation. Dense infiltrate (PAS)"
    between = panels("A lymph node after haematoxylin and eosin (H&E) (a and c) and Prussian blue (b and d) staining with iron.")
    assert "eosin" in between["C"] and "Prussian" not in between["C"]
    assert "Prussian" in between["D"] and "eosin" not in between["D"]


def test_a_marker_after_a_bracket_without_a_stop_still_opens_its_words():
    assert panels("(A) Tumour (H&E) (B) Stroma (PAS) (C) Vessel (CD34)") == {
        "A": "Tumour (H&E)", "B": "Stroma (PAS)", "C": "Vessel (CD34)",
    }  # fmt: skip


def test_a_list_inside_the_words_of_a_range_gives_each_panel_its_own():
    found = panels("(a) Mice. (b–d) Prostates showing slight hyperplasia (b), low-grade PIN (c) and high-grade PIN (d).")
    assert found["C"] == "Prostates showing low-grade PIN"
    assert "high-grade PIN" in found["D"] and "low-grade" not in found["D"]
    later = panels("(A, B) Livers of mice. Staining for CD3 (A) and CD20 (B). (C) Spleen.")
    assert later["A"].endswith("Staining for CD3") and later["B"].endswith("Staining for CD20")


def test_a_list_after_a_colon_inside_the_words_of_a_range_keeps_its_heading():
    caption = (
        "(a) CT. (b)–(c) Histology of the lesion of the lower jaw: a mass of giant cells permeated by bleeding next to the "
        "compact bone (b); fibroblasts close to the compact bone (c). H&E."
    )
    found = panels(caption)
    assert found["C"] == "Histology of the lesion of the lower jaw: fibroblasts close to the compact bone. H&E."
    assert "giant cells" in found["B"] and "fibroblasts" not in found["B"]


def test_a_sentence_with_letters_that_is_no_list_is_not_cut():
    caption = (
        "(A, B) Larvae on plants. Predation rates of the larvae were higher on the mutant than on all other plants at the "
        "edges (A), but lower than on the wild type in the centre (B). (C) Roots. (D) Stems."
    )
    found = panels(caption)
    assert found["A"] == found["B"] and "(A), but lower" in found["A"]


def test_a_scale_bar_before_a_marker_without_a_stop_is_of_the_panel_before():
    found = panels("Metastasis. (a) Low power of the tumour. Scale bar = 100 microns (b) High power of the cells.")
    assert "Scale bar = 100 microns" in found["A"] and "Scale bar" not in found["B"]


def test_a_heading_with_a_colon_is_of_the_list_that_it_opens():
    found = panels(
        "A and B, Fracture. C and D, After reduction. Nine years later: E and F, normal elbow; G and H, operated elbow."
    )
    assert found["G"] == "Nine years later: operated elbow."
    assert found["E"] == "Nine years later: normal elbow" and "Nine years" not in found["C"]


def test_words_that_run_on_are_joined_without_a_stop():
    assert panels("Cells were treated with 2 mg of CSA (A) and HA (B).")["B"] == "Cells were treated with 2 mg of HA"


def test_what_all_pictures_of_a_list_show_is_told_of_each():
    after = panels("Axial FLAIR (A) and T2W (B) images demonstrate a bright insula, which is dark on the T1W image (C).")
    assert after["A"] == "Axial FLAIR images demonstrate a bright insula"
    assert after["B"] == "T2W images demonstrate a bright insula"
    before = panels("Cancer. (a) Sagittal T2-weighted, (b) axial T1-weighted and (c) fat-suppressed images show a dark mass.")
    assert all(text.endswith("show a dark mass.") for text in before.values())


def test_the_beginning_of_a_sentence_up_to_its_verb_is_of_all_items():
    found = panels(
        "Staining for WT1 showed nuclear reactivity in the serous carcinoma (A) and no staining in the benign cystadenoma (B)."
    )
    assert found["B"] == "Staining for WT1 showed no staining in the benign cystadenoma"


@pytest.mark.parametrize(
    ("caption", "second"),
    [
        ("The structure of curcumin (A) and nature borneol (B).", "The structure of nature borneol"),
        ("The histology of benign prostatic hyperplasia (BPH) (A) and prostate cancer (B).", "The histology of prostate cancer"),
        ("Mice (n = 10) were weighed and their weights (A) and signs of illness (B) recorded.", ""),
    ],
)
def test_the_first_item_of_a_list_begins_after_its_preposition_and_before_an_abbreviated_name(caption, second):
    found = panels(caption)
    assert found["B"] == second or not second
    assert "n = signs" not in found["B"]


def test_numbers_that_lost_the_stop_before_them_are_found():
    caption = "Enucleation of a cyst. 1. Incision of capsule2. Cyst resection3. Ovarian suture4. The closed ovary"
    assert panels(caption)["3"] == "Enucleation of a cyst. Ovarian suture"
    assert len(panels("Grown to OD2. Then diluted to OD3. Then frozen.")) == 1


@pytest.mark.parametrize(
    ("caption", "panels"),
    [
        ("(A-i) Gland. (A-ii) Duct. (B) Nerve.", {"A": "Gland. Duct.", "B": "Nerve."}),  # never A to I
        ("(A–i) Gland. (A–ii) Duct. (B–i) Nerve.", {"A–I": "Gland.", "A–II": "Duct.", "B–I": "Nerve."}),
        (
            "(a-i) Gland. (a-ii) Duct. (b-i) Nerve. (b-ii) Vein.",
            {"A-I": "Gland.", "A-II": "Duct.", "B-I": "Nerve.", "B-II": "Vein."},
        ),
        ("(A1) Gland. (A2) Duct. (B1) Nerve.", {"A1": "Gland.", "A2": "Duct.", "B1": "Nerve."}),
        ("A1: Gland. A2: Duct. B1: Nerve.", {"A1": "Gland.", "A2": "Duct.", "B1": "Nerve."}),
        ("(Ai) Gland, (Aii) duct, (Bi) nerve.", {"AI": "Gland", "AII": "duct", "BI": "nerve."}),
        ("Gland (A1) and duct (A2). Nerve (B1).", {"A1": "Gland", "A2": "duct", "B1": "Nerve"}),
        ("(A1–A3) Gland. (B1, B2) Nerve.", {"A1": "Gland.", "A2": "Gland.", "A3": "Gland.", "B1": "Nerve.", "B2": "Nerve."}),
        ("(A1-3) Gland. (B1-2) Nerve.", {"A1": "Gland.", "A2": "Gland.", "A3": "Gland.", "B1": "Nerve.", "B2": "Nerve."}),
        ("(A) Gland. (A1) Its duct. (B) Nerve.", {"A": "Gland. Its duct.", "B": "Nerve."}),
        ("Ten mice (A-J).", dict.fromkeys("ABCDEFGHIJ", "Ten mice")),  # a range all the same
        ("a | Gland. b | Nerve.", {"A": "Gland.", "B": "Nerve."}),
        ("（A）Gland.（B）Nerve.", {"A": "Gland.", "B": "Nerve."}),
        ("Fig. 1A: Gland. Fig. 1B: Nerve.", {"A": "Gland.", "B": "Nerve."}),
        ("CK7 (A, positive) and CK20 (B, negative).", {"A": "CK7", "B": "CK20"}),
        ("Gland and nerve (A and B, respectively).", {"A": "Gland and nerve", "B": "Gland and nerve"}),
    ],
)
def test_labels_of_two_parts_and_other_prints(caption: str, panels: dict[str, str]) -> None:
    assert {s.letter: s.text for s in split(caption)} == panels


def test_printed_letters_settle_labels_of_two_parts() -> None:
    assert [s.letter for s in split("(A1) Gland. (A2) Duct. (B1) Nerve.", ["A", "B"])] == ["A", "B"]


@pytest.mark.parametrize(
    "caption", ["Levels of A1 and A2 receptors.", "Castration (Cx) and control (Av).", "The A1, A2 and B1 segments."]
)
def test_names_with_numbers_are_no_panels(caption: str) -> None:
    assert [s.letter for s in split(caption)] == [""]


@pytest.mark.parametrize(
    ("caption", "panels"),
    [
        (
            "A, Normal mucosa; B tubular adenoma; C adenocarcinoma.",
            {"A": "Normal mucosa", "B": "tubular adenoma", "C": "adenocarcinoma."},
        ),
        ("A–B, Low power; C–D, CK7 is positive.", dict.fromkeys("AB", "Low power") | dict.fromkeys("CD", "CK7 is positive.")),
        ("Biopsy sites (A to C) show atrophy.", dict.fromkeys("ABC", "Biopsy sites show atrophy.")),
        (
            "Lymphoma (anti-CD20, A-B) and (anti-CD34, C).",
            dict.fromkeys("AB", "Lymphoma anti-CD20") | {"C": "anti-CD34"},
        ),
        ("Spleen by PAS (A) and by stain (anti-CD34, B).", {"A": "Spleen by PAS", "B": "by stain anti-CD34"}),
    ],
)
def test_forms_of_naming_panels(caption: str, panels: dict[str, str]) -> None:
    assert {s.letter: s.text for s in split(caption)} == panels


@pytest.mark.parametrize(
    "caption",
    [
        "(a) The fundus. A: optic nerve disc, B: macula, C: vessels. (b) Tomography. A: ILM, B: photoreceptor layer.",
        "(A) Small intestine. a, villus; b, crypt; c, muscularis. (B) Colon. a, goblet cell; b, lamina propria.",
        "(A) Glycated haemoglobin and (B) weight. LS, least squares; C, control; D, diabetic.",
        "(A) Glucose and (B) body weight. M, month; s.e, standard error; W, week; C, control.",
        "(A) Liver with central vein (CV) and portal tract (P). (B) Kidney with cortex (C) and medulla (M).",
        "Two embryos, wild type (A) and mutant (B). YS, yolk sac; A, allantois; NF, neural folds; C, cord.",
    ],
)
def test_letters_that_are_explained_inside_of_a_caption_are_no_panels(caption: str) -> None:
    assert [s.letter for s in split(caption)] == ["A", "B"]
    assert all(is_verbatim(s.text, caption) for s in split(caption))


@pytest.mark.parametrize("letters", [(), ("A", "B")])
def test_a_caption_longer_than_any_is_not_split(letters: tuple[str, ...]) -> None:
    """A hostile file's: splitting takes time with the square of the length, and one of a megabyte would take hours."""
    caption = "(A) word " * 100_000
    parts = split(caption, letters)
    assert [part.letter for part in parts] == [*(letters or [""])] and all(part.text == caption.strip() for part in parts)
