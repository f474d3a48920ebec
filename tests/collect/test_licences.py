import pytest

from pathasst.collect.licences import allowed, from_pmc, from_url, from_words


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("http://creativecommons.org/licenses/by/4.0/", "CC-BY-4.0"),
        ("https://creativecommons.org/licenses/by-nc-nd/3.0", "CC-BY-NC-ND-3.0"),
        ("http://creativecommons.org/licenses/by-nc/2.0/uk/", "CC-BY-NC-2.0"),
        ("http://creativecommons.org/licenses/by", "CC-BY"),
        ("https://creativecommons.org/publicdomain/zero/1.0/", "CC0-1.0"),
        ("https://creativecommons.org/publicdomain/mark/1.0/", "PDM-1.0"),
        ("https://example.org/terms", "unknown"),
    ],
)
def test_addresses(url: str, code: str) -> None:
    assert from_url(url) == code


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("distributed under the Creative Commons Attribution License, which permits", "CC-BY"),
        ("under the Creative Commons Attribution 4.0 International License", "CC-BY-4.0"),
        ("CreativeCommons Attribution-NonCommercial-NoDerivs 3.0 License .", "CC-BY-NC-ND-3.0"),
        ("Creative Commons Attribution Non-Commercial License", "CC-BY-NC"),
        ("Creative Commons Attribution-ShareAlike", "CC-BY-SA"),
        ("creativeCommonsBy-nc", "CC-BY-NC"),
        ("cc-by-nc", "CC-BY-NC"),
        ("available under the Creative Commons CC0 public domain dedication", "CC0-1.0"),
        ("open-access", "unknown"),
        ("All rights reserved.", "unknown"),
    ],
)
def test_words(text: str, code: str) -> None:
    assert from_words(text) == code


@pytest.mark.parametrize(
    ("pmc", "code"),
    [
        ("CC BY", "CC-BY"),
        ("CC BY-NC-ND", "CC-BY-NC-ND"),
        ("CC BY-NC-SA", "CC-BY-NC-SA"),
        ("CC0", "CC0-1.0"),
        ("TDM", "TDM"),
        (None, "unknown"),
    ],
)
def test_pmc_codes(pmc: str | None, code: str) -> None:
    assert from_pmc(pmc) == code


@pytest.mark.parametrize(
    ("code", "policies"),
    [
        ("CC-BY-4.0", {"open", "research", "any"}),
        ("CC-BY-SA", {"open", "research", "any"}),
        ("CC0-1.0", {"open", "research", "any"}),
        ("CC-BY-NC-4.0", {"research", "any"}),
        ("CC-BY-ND", {"research", "any"}),
        ("TDM", {"any"}),
        ("unknown", {"any"}),
    ],
)
def test_policies(code: str, policies: set[str]) -> None:
    assert {p for p in ("open", "research", "any") if allowed(code, p)} == policies
