"""Articles and pictures that the tests write themselves."""

import io

import numpy as np
from PIL import Image

HEAD = (
    '<?xml version="1.0"?><article xmlns:xlink="http://www.w3.org/1999/xlink" '
    'xmlns:mml="http://www.w3.org/1998/Math/MathML" xmlns:ali="http://www.niso.org/schemas/ali/1.0">'
)
LICENCE = (
    "<permissions><license><ali:license_ref>https://creativecommons.org/licenses/by/4.0/</ali:license_ref>"
    "<license-p>Open.</license-p></license></permissions>"
)


def article_xml(body: str, *, pmcid: str = "PMC77", title: str = "Glands of the colon", extra: str = LICENCE) -> bytes:
    """A whole small JATS article around a body."""
    ids = f'<article-id pub-id-type="pmcid">{pmcid}</article-id>' if pmcid else ""
    return (
        f"{HEAD}<front><journal-meta><journal-title-group><journal-title>J Test</journal-title></journal-title-group>"
        f'</journal-meta><article-meta>{ids}<article-id pub-id-type="doi">10.1/x</article-id>'
        f'<article-id pub-id-type="pmid">123</article-id><title-group><article-title>{title}</article-title></title-group>'
        '<pub-date pub-type="ppub"><year>2016</year></pub-date>'
        f'<pub-date pub-type="epub"><day>3</day><month>4</month><year>2016</year></pub-date>{extra}'
        '<abstract abstract-type="graphical"><p>Picture.</p></abstract><abstract><p>What we did.</p></abstract>'
        "<kwd-group><kwd>colon</kwd></kwd-group>"
        '<kwd-group kwd-group-type="MeSH"><kwd>Colonic Neoplasms</kwd></kwd-group>'
        f"</article-meta></front><body>{body}</body></article>"
    ).encode()


def fig(fig_id: str, caption: str = "A gland.", href: str = "g1", label: str = "Figure 1") -> str:
    """A plain figure element."""
    return f'<fig id="{fig_id}"><label>{label}</label><caption><p>{caption}</p></caption><graphic xlink:href="{href}"/></fig>'


def picture(size: tuple[int, int] = (40, 30), kind: str = "JPEG", seed: int = 0, mode: str = "RGB") -> bytes:
    """An encoded picture of noise."""
    shape = (size[1], size[0]) if mode in ("L", "I;16") else (size[1], size[0], len(mode))
    values = np.random.default_rng(seed).integers(0, 256, shape)
    array = (values * 257).astype(np.uint16) if mode == "I;16" else values.astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(array, mode=None if mode == "I;16" else mode).save(buffer, kind)
    return buffer.getvalue()
