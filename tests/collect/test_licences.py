import pytest
from lxml import etree

from pathasst.collect.licences import allowed, from_pmc, from_url, from_words, of_notes


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("http://creativecommons.org/licenses/by/4.0/", "CC-BY-4.0"),
        ("https://creativecommons.org/licenses/by-nc-nd/3.0", "CC-BY-NC-ND-3.0"),
        ("http://creativecommons.org/licenses/by-nc/2.0/uk/", "CC-BY-NC-2.0"),
        ("http://creativecommons.org/licenses/by", "CC-BY"),
        ("https://creativecommons.org/publicdomain/zero/1.0/", "CC0-1.0"),
        ("https://creativecommons.org/publicdomain/mark/1.0/", "PDM-1.0"),
        ("https://creativecommons.org/licenses/by-nd-nc/1.0/", "CC-BY-NC-ND-1.0"),
        ("http://creativecommons.org/licenses/by\u2010nc/4.0/", "CC-BY-NC-4.0"),
        ("http://creativecommons.org/licenses/by_nc%2F4.0", "CC-BY-NC-4.0"),
        ("http://creative commons.org/ licenses/by/3.0/", "CC-BY-3.0"),
        ("http://creativecommons.org/by/4.0/", "CC-BY-4.0"),
        ("https://example.org/terms", "unknown"),
        ("http://www.creativecommons.org", "unknown"),
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
        ("licensed under Creative Commons BY-NC-ND 3.0", "CC-BY-NC-ND-3.0"),
        ("a creative-commons attribution licence", "CC-BY"),
        ("Creative CommonsAttributionNonCommercialLicense", "CC-BY-NC"),
        ("Creative Commons Zero", "CC0-1.0"),
        ("CC Attribution 4.0", "CC-BY-4.0"),
        (
            "under the Creative Commons License, which permits unrestricted use, distribution, and reproduction in any medium",
            "CC-BY",
        ),
        ("the Creative Commons License, which permits unrestricted non-commercial use", "CC-BY-NC"),
        ("a Creative Commons licence", "unknown"),
        ("verbatim copying and redistribution of this article are permitted in all media for any purpose", "OA"),
        ("an Open Access article which permits unrestricted noncommercial use", "OA-NC"),
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
        ("CC BY 4.0", {"open", "research", "any"}),
        ("MIT", {"open", "research", "any"}),
        ("Apache-2.0", {"open", "research", "any"}),
        ("all rights reserved", {"any"}),
        ("OA", {"research", "any"}),
        ("OA-NC", {"research", "any"}),
        ("TDM", {"any"}),
        ("unknown", {"any"}),
    ],
)
def test_policies(code: str, policies: set[str]) -> None:
    assert {p for p in ("open", "research", "any") if allowed(code, p)} == policies


def of_article(front: str = "", back: str = "") -> tuple[str, str]:
    return of_notes(etree.fromstring(f"<article><front>{front}</front><back>{back}</back></article>"))


def test_a_licence_in_the_notes_counts_where_permissions_say_nothing() -> None:
    meta = "<article-meta><custom-meta-group><custom-meta><meta-name>licence</meta-name><meta-value>CC BY 4.0</meta-value>"
    assert of_article(meta + "</custom-meta></custom-meta-group></article-meta>") == ("CC-BY-4.0", "")
    link = (
        '<ext-link xmlns:x="http://www.w3.org/1999/xlink" x:href="http://creativecommons.org/licenses/by-nc/3.0/">here</ext-link>'
    )
    note = f"<fn-group><fn><p>Published under a Creative Commons licence, see {link}.</p></fn></fn-group>"
    assert of_article(back=note) == ("CC-BY-NC-3.0", "http://creativecommons.org/licenses/by-nc/3.0/")
    data = "<notes><p>The data are available under the Creative Commons CC0 waiver.</p></notes>"
    assert of_article(back=data) == ("unknown", "")
