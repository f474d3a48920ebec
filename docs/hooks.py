"""What the site has beside the pages: a card of every model and tool, from the registry. A hook of mkdocs."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
LINK_UPWARDS = re.compile(r"\[([^]]*)\]\((\.\./[^)]*)\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add cards.md, the models' own cards and the tools' cards."""
    pages = {"cards.md": _overview()}
    pages |= {f"models/{p.parent.name}/card.md": p.read_text(encoding="utf-8") for p in sorted(ROOT.glob("models/*/card.md"))}
    pages |= {f"tool-cards/{name}.md": text for name, text in _tool_cards().items()}
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links that work in the repository work on the site; files that it lacks are named without a link."""
    uri = page.file.src_uri
    if uri == "cards.md" or uri.startswith("tool-cards/"):  # made here, for the site
        return markdown
    here = posixpath.dirname(uri if uri.startswith("models/") else f"docs/{uri}")

    def on_site(link: re.Match[str]) -> str:
        path, mark, anchor = link[2].partition("#")
        target = posixpath.normpath(posixpath.join(here, path)).removeprefix("docs/")
        if files.get_file_from_path(target) is None:
            return f"`{link[1]}`"
        return f"[{link[1]}]({posixpath.relpath(target, posixpath.dirname(uri) or '.')}{mark}{anchor})"

    return LINK_UPWARDS.sub(on_site, markdown)


def _tool_cards() -> dict[str, str]:
    from pathasst.tools.cards import as_markdown
    from pathasst.tools.registry import all_classes

    return {cls.name: as_markdown(cls) for cls in all_classes()}


def _overview() -> str:
    from pathasst.core import weights

    lines = ["# Cards", "", "## Models", "", "| model | MB | licence | for |", "|---|---|---|---|"]
    for entry in weights.registry().values():
        name = f"[{entry.id}](models/{entry.id}/card.md)" if (ROOT / "models" / entry.id / "card.md").is_file() else entry.id
        mark = " **research only**" if entry.research_only else ""
        lines.append(f"| {name} | {entry.size_mb:g} | {entry.licence}{mark} | {entry.purpose} |")
    lines += ["", "## Tools", ""]
    return "\n".join([*lines, *(f"- [{name}](tool-cards/{name}.md)" for name in _tool_cards()), ""])
