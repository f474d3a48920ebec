"""Abstracts → index → hits (the paper's Paper Retrieval): MEDLINE reading, embedding, Faiss clusters, words, search.

```python
from pathasst import papers
index = papers.open_default(build=True)
for hit in index.find("Ki-67 in breast carcinoma", k=5, filters={"since": 2000}).hits:
    print(hit.pmid, hit.year, hit.title, hit.highlights)
```
"""

from pathasst.papers.build import BuildSettings, add, build, compact, delete
from pathasst.papers.default import build_default, open_default, ready
from pathasst.papers.filters import Filters
from pathasst.papers.index import PaperIndex, SearchResult, SearchSettings, default_home
from pathasst.papers.rerank import CrossEncoder
from pathasst.papers.versions import verify

__all__ = [
    "BuildSettings",
    "CrossEncoder",
    "Filters",
    "SearchResult",
    "PaperIndex",
    "SearchSettings",
    "add",
    "build",
    "build_default",
    "compact",
    "default_home",
    "delete",
    "open_default",
    "ready",
    "verify",
]
