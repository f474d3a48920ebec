"""Marks of pictures are read alike for boxes and points, and a wrong table names its fault."""

import pytest

from pathasst.core.errors import BadDataset
from pathasst.imaging.annotations import group_of, read_marks


def test_marks_come_by_image_and_pictures_without_any_stay(tmp_path):
    (tmp_path / "m.csv").write_text("image,x,y,label,split\na.png,1,2.5,cell,test\nb.png,,,,\na.png,3,4,cell,test\n")
    assert read_marks(tmp_path / "m.csv", ("x", "y")) == {
        "a.png": ("test", [((1, 2.5), "cell"), ((3, 4), "cell")]),
        "b.png": ("", []),
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,x,label\n", r"lacks the columns \['y'\]"),
        ("image,x,y,label\na,1,two,c\na,2,three,c\n", "line 2"),
        (None, "there is no"),
    ],
)
def test_a_wrong_table_names_its_fault(tmp_path, text, message):
    if text is not None:
        (tmp_path / "m.csv").write_text(text)
    with pytest.raises(BadDataset, match=message):
        read_marks(tmp_path / "m.csv", ("x", "y"))


def test_a_group_is_what_the_pattern_finds():
    assert group_of("p1_2_a.png", r"^(p\d+_\d+)_") == "p1_2" and group_of("a.png", "") == "a.png"
    with pytest.raises(BadDataset, match="group pattern"):
        group_of("odd.png", r"^(p\d+)_")


def test_one_row_without_a_number_costs_itself(tmp_path):
    (tmp_path / "m.csv").write_text("image,x,y,label\na,1,2,c\na,1,two,c\nb,3,4,c\nb,5\n")
    with pytest.warns(UserWarning, match="1 with something else where a number should be"):
        marks = read_marks(tmp_path / "m.csv", ("x", "y"))
    assert marks == {"a": ("", [((1.0, 2.0), "c")]), "b": ("", [((3.0, 4.0), "c")])}
