"""Made-up MEDLINE records."""

import gzip
from pathlib import Path

TOPICS = [
    "Ki-67 labelling index predicts recurrence in breast carcinoma",
    "Mesothelioma of the pleura after asbestos exposure",
    "Bacterial contamination of beef carcases in abattoirs",
    "HER2 amplification by in situ hybridisation in gastric cancer",
    "Liquid based cervical cytology and human papillomavirus testing",
    "Renal biopsy findings in lupus nephritis",
    "Deep learning for mitosis counting in whole slide images",
    "Pineal gland calcification in dogs",
]


def record(
    pmid,
    title="A title.",
    abstract="An abstract.",
    year="2001",
    extra="",
    types=("Journal Article",),
    journal="Journal of Tests",
    inside="",
):
    """One PubmedArticle as PubMed writes it."""
    body = f"<Abstract><AbstractText>{abstract}</AbstractText></Abstract>" if abstract else ""
    kinds = "".join(f'<PublicationType UI="D1">{t}</PublicationType>' for t in types)
    date = f"<PubDate><Year>{year}</Year><Month>Jun</Month></PubDate>"
    mesh = '<MeshHeadingList><MeshHeading><DescriptorName UI="D2">Animals</DescriptorName></MeshHeading></MeshHeadingList>'
    return f"""<PubmedArticle><MedlineCitation Status="MEDLINE" Owner="NLM"><PMID Version="1">{pmid}</PMID>
    <Article PubModel="Print"><Journal><JournalIssue CitedMedium="Print">{date}</JournalIssue>
    <Title>{journal}</Title></Journal><ArticleTitle>{title}</ArticleTitle>{body}
    <AuthorList CompleteYN="Y"><Author><LastName>Nobody</LastName></Author></AuthorList>
    <PublicationTypeList>{kinds}</PublicationTypeList>{inside}</Article>{mesh}{extra}
    </MedlineCitation>
    <PubmedData><ArticleIdList><ArticleId IdType="pubmed">{pmid}</ArticleId></ArticleIdList></PubmedData></PubmedArticle>"""


HEAD = '<?xml version="1.0" encoding="utf-8"?>\n<!DOCTYPE PubmedArticleSet PUBLIC "x" "y.dtd">'


def document(*records, deleted=(), head=HEAD):
    """A whole file."""
    pmids = "".join(f'<PMID Version="1">{p}</PMID>' for p in deleted)
    gone = f"<DeleteCitation>{pmids}</DeleteCitation>" if pmids else ""
    return "\n".join([head, "<PubmedArticleSet>", *records, gone, "</PubmedArticleSet>\n"]).encode()


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def corpus(n, first=1000):
    """`n` distinct records, the topics in turn."""
    found = []
    for i in range(n):
        topic = TOPICS[i % len(TOPICS)]
        text = f"We studied {topic.lower()} in series {first + i}. Patient group {i} did well. Nothing else was seen."
        found.append(record(first + i, title=f"{topic}.", abstract=text, year=str(1990 + i % 30)))
    return found


def write_without_end(files, home, acts, turns):
    """Of a process that a test kills: adds, builds, compacts, again and again; says on a pipe that it starts, and each turn."""
    from pathasst.papers import BuildSettings, add, build, compact

    (whole, update), settings = files, BuildSettings(workers=1)
    turns.send("go")
    while True:
        if "add" in acts:
            add([update], home, settings, lambda text: None)
        if "build" in acts:
            build([whole], home, settings, lambda text: None)
        if "compact" in acts:
            compact(home, settings)
        turns.send("again")
