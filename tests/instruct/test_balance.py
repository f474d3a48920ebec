from __future__ import annotations

from collections import Counter
from random import Random

from pathasst.instruct.balance import Balance

PICTURES = [(("organ", "colon"), "he")] * 60 + [(("organ", "lung"), "he")] * 30 + [(("cell", "platelet"), "blood")] * 10
SETS = {"organ": ["colon", "lung"], "cell": ["platelet"]}


def asked(draws: int = 400) -> Counter[tuple[str, bool]]:
    balance = Balance()
    for term, domain in PICTURES:
        balance.add([term], domain)
    rng, seen = Random(0), Counter()
    for _ in range(draws):
        for truth, _ in PICTURES:
            drawn = balance.question(truth, [s for s in SETS[truth[0]] if s != truth[1]], rng)
            if drawn:
                seen[drawn[1][1], drawn[0]] += 1
                assert drawn[0] == (drawn[1] == truth)
    return seen


def test_every_term_is_as_often_true_as_false_however_rare():
    seen = asked()
    for term in ("colon", "lung", "platelet"):
        share = seen[term, True] / (seen[term, True] + seen[term, False])
        assert 0.47 < share < 0.53


def test_terms_of_one_kind_of_picture_that_may_stand_together_are_not_denied():
    balance = Balance()
    for _ in range(5):
        balance.add([("organ", "colon"), ("tissue", "stroma")], "he")
    assert balance.question(("organ", "colon"), ["lung"], Random(0)) is None  # nothing is known that would be false
