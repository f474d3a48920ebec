"""Which option a reply chooses: the strict rule accepts what commits itself to one, MMMU's finds something in everything."""

import pytest

from pathasst.evaluate.questions.extract import lenient_choice, strict_choice

CHOICES = ["adenoma", "carcinoma", "lymphoma", "a normal gland"]


@pytest.mark.parametrize(
    ("reply", "strict"),
    [
        ("B", 1),
        ("(B)", 1),
        ("B.", 1),
        ("B) carcinoma", 1),
        ("**B**", 1),
        ("Answer: C", 2),
        ("The answer is (D).", 3),
        ("The correct option is B: carcinoma", 1),
        ("It is an epithelial tumour, so the answer is B.", 1),
        ("<think>A? No, C.</think>B", 1),
        ("carcinoma", 1),
        ("Carcinoma.", 1),
        ("A normal gland", 3),  # the text of an option, not the letter A
        ("The answer is a tumour.", None),
        ("A tumour is seen here.", None),
        ("It could be A or B.", None),
        ("The answer is A. No, the answer is B.", None),
        ("E", None),
        ("", None),
        ("I cannot see the picture.", None),
        ("It looks like carcinoma or lymphoma", None),
    ],
)
def test_the_strict_rule(reply, strict):
    assert strict_choice(reply, CHOICES) == strict


@pytest.mark.parametrize(
    ("reply", "choice"),
    [
        ("(A) is wrong, (B) is right", 1),
        ("I think it is C here", 2),
        ("The picture shows a typical lymphoma with large cells", 2),
        ("It could be A or B , but most likely C", 2),
    ],
)
def test_mmmus_rule_takes_the_last_option_named(reply, choice):
    assert lenient_choice(reply, CHOICES, "seed") == choice


def test_mmmus_rule_draws_where_nothing_is_named():
    drawn = {lenient_choice("no idea", CHOICES, str(n)) for n in range(50)}
    assert drawn == {0, 1, 2, 3}
    assert lenient_choice("no idea", CHOICES, "same") == lenient_choice("no idea", CHOICES, "same")
