from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from curate_samples import compound, figure, png, texture
from typer.testing import CliRunner

from pathasst.cli.main import app
from pathasst.core.errors import BadSettings
from pathasst.core.records import Pair
from pathasst.curate import pipeline, report
from pathasst.curate.settings import CurateSettings
from pathasst.dataset import read, validate

PLAIN = CurateSettings(select="", refine=True, val=0.0, test=0.0)
CAPTION = "Renal biopsies. (a) Large glomeruli are seen. (b) Pale tubules are seen. Original magnification ×200."


@pytest.fixture
def figures(figures_dataset):
    """Two shards: a compound figure, a single one, and one of every kind that must go."""
    sheet = compound([texture(1), texture(2)], 2, "ab")
    return figures_dataset(
        {
            "00000": [
                figure("f1", sheet, CAPTION),
                figure("f2", texture(3), "Clear cell carcinoma of the kidney with necrosis (×400)."),
                figure("f3", None, "A tumour."),
                figure("f4", texture(4), "Coupe avec une infiltration des cellules dans le derme et les vaisseaux."),
                figure("f5", np.full((200, 200, 3), 255, np.uint8), "Nothing is to be seen here."),
            ],
            "00001": [
                figure("f1", texture(3), "The same picture in another article.", article_id="PMC2.1"),
                figure("f2", texture(5), "Retracted carcinoma of the colon.", article_id="PMC2.1", retracted=True),
                figure("f3", texture(6), "Closed carcinoma of the colon.", article_id="PMC2.1", licence="unknown"),
            ],
        }
    )


def curated(figures, out, settings=PLAIN, **how):
    manifest = pipeline.run(figures, out, settings, progress=False, **how)
    return manifest, list(read(out, Pair))


def test_figures_become_pairs_with_their_words_boxes_and_provenance(figures, tmp_path):
    _, pairs = curated(figures, tmp_path / "pairs")
    by_id = {p.pair_id: p for p in pairs}
    a, b = by_id["PMC1.1/f1:1"], by_id["PMC1.1/f1:2"]
    assert a.caption == "Renal biopsies. Large glomeruli are seen."
    assert "tubules" in b.caption
    assert "×200" in b.original
    assert (a.panel.letter, b.panel.letter, a.panels) == ("A", "B", 2)
    assert (a.width, a.height) == pytest.approx((260, 200), abs=4)
    assert [m.step for m in a.trail] == ["panels", "captions", "align", "refine", "quality"]
    assert a.source.article_id == a.group == "PMC1.1"
    single = by_id["PMC1.1/f2:1"]
    assert single.panels == 1
    assert single.caption == "Clear cell carcinoma of the kidney with necrosis."
    assert validate(tmp_path / "pairs", Pair) == []


def test_every_drop_has_its_reason(figures, tmp_path):
    settings = CurateSettings(select="", quality={"licence": "open"})
    curated(figures, tmp_path / "pairs", settings)
    dropped = report.yields(tmp_path / "pairs").dropped
    assert dict(dropped) == {"no_picture": 1, "language": 1, "blank": 1, "duplicate": 1, "retracted": 1, "licence": 1}


def test_a_repeat_goes_even_when_it_lies_in_another_shard(figures, tmp_path):
    _, pairs = curated(figures, tmp_path / "pairs")
    names = {p.pair_id for p in pairs}
    assert "PMC1.1/f2:1" in names
    assert "PMC2.1/f1:1" not in names
    _, pairs = curated(figures, tmp_path / "all", CurateSettings(select="", quality={"duplicate_bits": 0}))
    assert "PMC2.1/f1:1" in {p.pair_id for p in pairs}


def test_one_or_two_workers_and_a_second_run_give_the_same_bytes(figures, tmp_path):
    first, _ = curated(figures, tmp_path / "one")
    second, _ = curated(figures, tmp_path / "two", workers=2)
    again, _ = curated(figures, tmp_path / "one")
    shas = [[s.sha256 for s in m.shards] for m in (first, second, again)]
    assert shas[0] == shas[1] == shas[2]


def test_pairs_that_leak_are_left_out_or_noted(figures, tmp_path):
    folder = tmp_path / "eval"
    folder.mkdir()
    (folder / "q.png").write_bytes(png(np.ascontiguousarray(texture(3)[:, ::-1])))
    _, pairs = curated(figures, tmp_path / "out", CurateSettings(select="", leakage=(str(folder),)))
    assert "PMC1.1/f2:1" not in {p.pair_id for p in pairs}
    _, pairs = curated(figures, tmp_path / "noted", CurateSettings(select="", leakage=(str(folder),), exclude_leaks=False))
    leaking = next(p for p in pairs if p.pair_id == "PMC1.1/f2:1")
    assert leaking.trail[-1].step == "leakage"
    assert leaking.trail[-1].note == "eval/q.png"
    page = report.write_report(tmp_path / "noted").read_text()
    assert "Leakage into evaluation sets: 1" in page
    assert "eval/q.png" in page


def test_a_picture_that_only_looks_alike_is_noted_and_left_out_on_request(figures, tmp_path):
    folder = tmp_path / "eval"
    folder.mkdir()
    (folder / "q.png").write_bytes(png(texture(77)))

    def alike(pictures):  # says that all pictures are one and the same
        return np.ones((len(list(pictures)), 4), np.float32)

    settings = CurateSettings(select="", leakage=(str(folder),))
    _, pairs = curated(figures, tmp_path / "noted", settings, encoder=alike)
    assert {(p.trail[-1].by, p.trail[-1].note) for p in pairs} == {("embedding", "eval/q.png")}
    _, pairs = curated(figures, tmp_path / "out", settings.replace(exclude_alike=True), encoder=alike)
    assert pairs == []


def test_similarity_aligns_panels_without_letters(figures_dataset, tmp_path):
    pink, green = texture(1, tint=(220, 120, 170)), texture(2, tint=(110, 190, 110))
    caption = "Organs. (a) Green liver tissue is shown. (b) Pink kidney tissue is shown."
    folder = figures_dataset({"00000": [figure("f1", compound([pink, green], 2), caption)]})

    def by_colour(pictures, texts):
        return np.array([[float(("Pink" in t) == (p[..., 0].mean() > p[..., 1].mean())) for t in texts] for p in pictures])

    _, pairs = curated(folder, tmp_path / "pairs", similarity=by_colour)
    assert {p.pair_id[-1]: p.original.split()[1] for p in pairs} == {"1": "Pink", "2": "Green"}
    assert "cosine" in next(m.note for m in pairs[0].trail if m.step == "align")
    strict = CurateSettings(select="", quality={"min_relevance": 0.5})
    _, pairs = curated(folder, tmp_path / "none", strict, similarity=lambda p, t: np.full((len(p), len(t)), 0.4))
    assert pairs == []
    assert report.yields(tmp_path / "none").dropped == {"irrelevant": 2}


@pytest.mark.parametrize(
    ("caption", "words"),
    [
        ("Clear cell carcinoma of the kidney with necrosis.", ["carcinoma"] * 3),  # names no panel: the words are of all
        ("Renal biopsies of the kidney. (a) Large glomeruli. (b) Pale tubules.", ["glomeruli", "tubules", "biopsies"]),
    ],
)
def test_letters_read_in_the_picture_name_panels_that_the_caption_does_not(figures_dataset, tmp_path, caption, words):
    sheet = compound([texture(n) for n in (1, 2, 3)], 3, "abc")
    _, pairs = curated(figures_dataset({"00000": [figure("f1", sheet, caption)]}), tmp_path / "pairs")
    assert [p.panel.letter for p in pairs] == ["A", "B", "C"]
    assert all(word in p.caption for p, word in zip(pairs, words, strict=True))


def test_pictures_that_touch_become_pairs_of_their_own_where_the_caption_names_them(figures_dataset, tmp_path):
    sheet = np.hstack([texture(1), texture(2, tint=(120, 150, 200))])
    folder = figures_dataset({"00000": [figure("f1", sheet, CAPTION), figure("f2", sheet[::-1], "Two biopsies of a kidney.")]})
    _, pairs = curated(folder, tmp_path / "pairs", CurateSettings(select="", quality={"duplicate_bits": 0}))
    assert [(p.pair_id, p.width) for p in pairs] == [("PMC1.1/f1:1", 260), ("PMC1.1/f1:2", 260), ("PMC1.1/f2:1", 520)]


def test_the_report_counts_and_shows_kept_and_dropped(figures, tmp_path):
    curated(figures, tmp_path / "pairs")
    counts = report.yields(tmp_path / "pairs")
    assert counts.figures == 8
    assert counts.panels == counts.pairs + sum(counts.dropped[r] for r in ("blank", "language", "duplicate"))
    page = report.write_report(tmp_path / "pairs").read_text()
    assert "<svg" in page
    assert "Dropped: duplicate" in page
    assert page.count("data:image/jpeg") >= counts.pairs


def test_settings_and_inputs_that_cannot_work_are_refused_before_any_work(figures, tmp_path):
    with pytest.raises(BadSettings, match="captions"):
        CurateSettings(captions="magic")
    with pytest.raises(BadSettings, match=r"no setting quality\.sharp"):
        CurateSettings(quality={"sharp": 1})
    curated(figures, tmp_path / "pairs")
    with pytest.raises(BadSettings, match="needs Figures"):
        pipeline.run(tmp_path / "pairs", tmp_path / "again", PLAIN)


@pytest.mark.parametrize("recipe", ["embedded", "paper"])
def test_recipes_load(recipe):
    settings = CurateSettings.load(recipe)
    assert settings.quality.duplicate_bits == 4
    assert bool(settings.quality.min_relevance) == (recipe == "paper")  # the paper leaves out pairs of little relevance


def test_a_truncated_shard_costs_itself_and_is_named(figures, tmp_path):
    shard = Path(figures) / "00001.parquet"
    shard.write_bytes(shard.read_bytes()[: shard.stat().st_size // 2])
    result = CliRunner().invoke(
        app, ["curate", figures, "--out", str(tmp_path / "pairs"), "--select", "", "--similarity", "none", "--panels", "xycut"]
    )
    assert result.exit_code == 0, result.output
    assert "00001" in result.output and "damaged" in result.output
    assert {p.figure_id for p in read(tmp_path / "pairs", Pair)} == {"PMC1.1/f1", "PMC1.1/f2"}


def test_nothing_but_damaged_shards_is_an_error(figures, tmp_path):
    for shard in Path(figures).glob("*.parquet"):
        shard.write_bytes(shard.read_bytes()[:100])
    options = ["--select", "", "--similarity", "none", "--panels", "xycut"]
    result = CliRunner().invoke(app, ["curate", figures, "--out", str(tmp_path / "pairs"), *options])
    assert result.exit_code == 1 and "damaged" in result.output


def test_an_evaluation_set_that_is_not_there_is_refused_before_any_work(figures, tmp_path):
    with pytest.raises(BadSettings, match="nosuchdir"):
        curated(figures, tmp_path / "pairs", PLAIN.replace(leakage=(str(tmp_path / "nosuchdir"),)))
    assert not (tmp_path / "pairs").exists()
