import gzip
import json
from pathlib import Path

import pytest
from collect_samples import article_xml, fig, picture
from typer.testing import CliRunner

from pathasst import dataset
from pathasst.cli.main import app
from pathasst.collect.folder import collect_folder
from pathasst.collect.pictures import md5_of
from pathasst.core.errors import BadSettings
from pathasst.core.records import Figure


def write(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def rows(out: Path) -> list[Figure]:
    return list(dataset.read(out, Figure))


def run(folder: Path, **options) -> Path:
    out = folder.parent / f"out-{folder.name}"
    collect_folder(folder, out, progress=False, **options)
    return out


def test_pictures_beside_the_article_by_stem(tmp_path) -> None:
    write(tmp_path, "in/a.xml", article_xml(fig("f1", href="g1.tif") + fig("f2", href="x.002")))
    jpeg = picture()
    write(tmp_path, "in/g1.jpg", jpeg)
    write(tmp_path, "in/a/x.002.png", picture((20, 10), "PNG"))
    found = rows(run(tmp_path / "in"))
    assert [(f.figure_id, f.width, f.height) for f in found] == [("PMC77.1/f1", 40, 30), ("PMC77.1/f2", 20, 10)]
    assert found[0].image == jpeg and found[0].md5 == md5_of(jpeg)


def test_pictures_in_a_shared_folder_carry_their_article(tmp_path) -> None:
    write(tmp_path, "in/PMC1.nxml.gz", gzip.compress(article_xml(fig("fig1"), pmcid="PMC1")))
    write(tmp_path, "in/PMC2.xml", article_xml(fig("fig1"), pmcid="PMC2"))
    write(tmp_path, "pics/PMC1_fig1.png", picture((11, 11), "PNG"))
    write(tmp_path, "pics/PMC2/g1.png", picture((22, 22), "PNG"))
    assert [(f.source.pmcid, f.width) for f in rows(run(tmp_path / "in", figures=tmp_path / "pics"))] == [
        ("PMC1", 11),
        ("PMC2", 22),
    ]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("m.json", json.dumps({"PMC77/f1": "odd name.png"})),
        ("m.json", json.dumps([{"pmcid": "PMC77", "fig_id": "f1", "image": "odd name.png"}])),
        ("m.json", json.dumps([{"graphics": ["g1"], "image": "odd name.png"}])),
        ("m.csv", "article,fig_id,file\nPMC77,f1,odd name.png\n"),
    ],
)
def test_mapping_names_the_file(tmp_path, name: str, text: str) -> None:
    write(tmp_path, "in/a.xml", article_xml(fig("f1")))
    write(tmp_path, "pics/odd name.png", picture(kind="PNG"))
    mapping = write(tmp_path, name, text.encode())
    assert len(rows(run(tmp_path / "in", figures=tmp_path / "pics", mapping=mapping))) == 1


def test_an_href_cannot_leave_its_folder(tmp_path) -> None:
    write(tmp_path, "secret.png", picture(kind="PNG"))
    write(tmp_path, "in/a.xml", article_xml(fig("f1", href="../secret.png") + fig("f2", href=f"{tmp_path}/secret.png")))
    assert rows(run(tmp_path / "in")) == []


def test_bad_input_is_counted_and_loses_nothing_else(tmp_path) -> None:
    write(tmp_path, "in/a.xml", article_xml(fig("f1") + fig("f2", href="cut") + fig("f3", href="none")))
    write(tmp_path, "in/b.xml", b"<article><body>")
    write(tmp_path, "in/c.xml.gz", gzip.compress(article_xml(fig("f1")))[:-20])
    write(tmp_path, "in/g1.png", picture(kind="PNG"))
    write(tmp_path, "in/cut.jpg", picture((200, 200))[:4000])
    out = tmp_path / "out"
    manifest = collect_folder(tmp_path / "in", out, progress=False)
    assert [f.figure_id for f in rows(out)] == ["PMC77.1/f1"]
    assert dict(manifest.dropped) == {"unreadable-article": 2, "bad-picture": 1, "no-picture": 1}
    assert dataset.validate(out, Figure) == []


def test_a_picture_added_later_is_picked_up(tmp_path) -> None:
    write(tmp_path, "in/a.xml", article_xml(fig("f1")))
    assert rows(run(tmp_path / "in")) == []
    write(tmp_path, "in/g1.png", picture(kind="PNG"))
    assert len(rows(run(tmp_path / "in"))) == 1


def test_licence_policy_and_text_only(tmp_path) -> None:
    write(tmp_path, "in/a.xml", article_xml(fig("f1")))
    write(tmp_path, "in/b.xml", article_xml(fig("f1"), pmcid="PMC88", extra=""))
    assert [f.source.pmcid for f in rows(run(tmp_path / "in", licence="open", text_only=True))] == ["PMC77"]
    with pytest.raises(BadSettings, match="open, research, any"):
        run(tmp_path / "in", licence="free")


def test_no_articles_is_an_error_that_says_so(tmp_path) -> None:
    with pytest.raises(BadSettings, match="JATS"):
        collect_folder(tmp_path, tmp_path / "out")


def test_two_processes_write_the_same_bytes(tmp_path) -> None:
    for n in range(6):
        write(tmp_path, f"in/{n}.xml", article_xml(fig("f1", href=f"g{n}"), pmcid=f"PMC{n + 1}"))
        write(tmp_path, f"in/g{n}.png", picture(kind="PNG", seed=n))
    one = collect_folder(tmp_path / "in", tmp_path / "one", per_shard=2, progress=False)
    two = collect_folder(tmp_path / "in", tmp_path / "two", per_shard=2, workers=2, progress=False)
    assert one.rows == 6
    assert [s.sha256 for s in one.shards] == [s.sha256 for s in two.shards]


def test_command(tmp_path) -> None:
    write(tmp_path, "in/a.xml", article_xml(fig("f1") + fig("f2", href="none")))
    write(tmp_path, "in/g1.png", picture(kind="PNG"))
    result = CliRunner().invoke(app, ["collect", "folder", str(tmp_path / "in"), "--out", str(tmp_path / "out")])
    assert result.exit_code == 0 and "1 figures" in result.output and "no-picture: 1" in result.output


@pytest.mark.real
def test_the_real_articles_give_their_140_figures(real_data, tmp_path) -> None:
    truth = {(g["pmcid"], g["fig_id"]): g for g in json.loads((real_data / "articles/figures.json").read_text())}
    collect_folder(real_data / "articles/xml", tmp_path / "out", figures=real_data / "articles/figures", progress=False)
    found = rows(tmp_path / "out")
    assert len(found) == len(truth) == 140
    for figure in found:
        expected = truth[figure.source.pmcid, figure.figure_id.split("/")[1]]
        assert (figure.width, figure.height) == (expected["width"], expected["height"])
        assert figure.mentions and figure.source.licence.startswith("CC-BY")


def test_an_article_in_two_sets_and_on_its_own_is_taken_once(tmp_path: Path) -> None:
    def one(number: int) -> bytes:
        return article_xml(f"<sec>{fig('f1', href=f'g{number}')}</sec>", pmcid=f"PMC{number}").partition(b"?>")[2]

    for name, numbers in (("a/set.xml", (1, 2)), ("b/set.nxml", (2, 3)), ("c/PMC3.xml", (3,))):
        (tmp_path / "in" / name).parent.mkdir(parents=True)
        content = b"".join(map(one, numbers))
        (tmp_path / "in" / name).write_bytes(
            b"<pmc-articleset>" + content + b"</pmc-articleset>" if len(numbers) > 1 else content
        )
        for number in numbers:
            if (name, number) != ("a/set.xml", 2):  # whose picture lies beside the other set alone
                (tmp_path / "in" / name).with_name(f"g{number}.jpg").write_bytes(picture())
    manifest = collect_folder(tmp_path / "in", tmp_path / "out", progress=False)
    ids = sorted(f.source.pmcid for f in dataset.read(tmp_path / "out", Figure))
    assert ids == ["PMC1", "PMC2", "PMC3"] and manifest.dropped == {"duplicate-article": 2}
