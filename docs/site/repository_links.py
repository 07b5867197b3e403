"""Links to files of the repository, for the documentation site: a hook of MkDocs.

The documents are read in the repository too, so they link to files outside of ``docs``: recipes, model
cards, CHANGELOG.md. Each of these becomes a page below ``repository/``: Markdown as it is, other text as a
block of code, a folder as a list of its files. Links that lead nowhere are left as they are, and the strict
build names them.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
LINK = re.compile(r"(?<=\]\()(?P<target>[^)\s#:]+)(?P<anchor>#[^)\s]*)?(?=\))")
UNSEARCHED = "---\nsearch:\n  exclude: true\n---\n"

origins: dict[str, str] = {}
"""Path in the repository of each generated page, by the path of the page."""


def origin_of(page: str) -> str:
    """Return the path in the repository of a page, which is named as MkDocs names it."""
    return origins.get(page, f"docs/{page}")


def page_of(path: str) -> str | None:
    """Return the page that shows a file or folder of the repository; None where there is none."""
    found = ROOT / path
    inside = path.removeprefix("docs/") if path.startswith("docs/") else f"repository/{path}"
    if found.is_dir():
        return page_of(f"{path}/README.md") or f"{inside}/index.md"
    if not found.is_file():
        return None
    return inside if path.startswith("docs/") or found.suffix == ".md" else f"{inside}.md"


def linked(page: str, markdown: str) -> dict[str, str]:
    """Return the pages that a page links to, with their paths in the repository."""
    folder = posixpath.dirname(origin_of(page))
    links = (found["target"] for found in LINK.finditer(markdown))
    targets = {posixpath.normpath(posixpath.join(folder, link)) for link in links}
    return {shown: path for path in targets if (shown := page_of(path))}


def text_of(path: str) -> str:
    """Return the Markdown of the page that shows a file or folder of the repository."""
    found = ROOT / path
    if found.is_dir():
        names = sorted(each.name for each in found.iterdir() if each.is_file())
        return f"{UNSEARCHED}# `{path}`\n\n" + "".join(f"- [{name}]({name})\n" for name in names)
    text = found.read_text(encoding="utf-8")
    if found.suffix == ".md":
        return text
    return f"{UNSEARCHED}# `{path}`\n\n````{found.suffix.removeprefix('.')}\n{text}````\n"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page for each file of the repository that a page links to, directly or through another one."""
    origins.clear()
    waiting = [(page.src_uri, page.content_string) for page in files.documentation_pages()]
    while waiting:
        page, markdown = waiting.pop()
        for target, path in linked(page, markdown).items():
            if files.get_file_from_path(target) is None:
                origins[target] = f"{path}/index.md" if (ROOT / path).is_dir() else path
                text = text_of(path)
                files.append(File.generated(config, target, content=text))
                waiting.append((target, text))
    return files


def on_page_markdown(markdown: str, page: Page, files: Files, **_: object) -> str:
    """Let the links of a page lead to the pages that show what they name in the repository."""
    here = page.file.src_uri
    folder = posixpath.dirname(origin_of(here))

    def lead(found: re.Match[str]) -> str:
        target = page_of(posixpath.normpath(posixpath.join(folder, found["target"])))
        if target is None or files.get_file_from_path(target) is None:
            return found[0]
        return posixpath.relpath(target, posixpath.dirname(here) or ".") + (found["anchor"] or "")

    return LINK.sub(lead, markdown)
