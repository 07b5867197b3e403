"""Documentation site: no broken link, nothing from elsewhere, and it reads as the documents do."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt
from playwright.sync_api import Browser

ROOT = Path(__file__).resolve().parents[2]
BLOCKS = (
    "li",
    "ol",
    "ul",
    "table",
    "tr",
    "td",
    "pre",
    "h1",
    "h2",
    "h3",
    "h4",
    "img",
    "strong",
    "em",
    "code",
    "a",
)


def build(site: Path, root: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(site)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(
        command, cwd=root, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = build(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def article(page: Path) -> str:
    """Return the document in a page, without what the site puts around it."""
    text = page.read_text(encoding="utf-8")
    inside = text[text.index("<article") : text.index("</article>")]
    return re.sub(r'<a class="headerlink".*?</a>', "", inside)


@pytest.mark.parametrize(
    ("document", "added", "complaint"),
    [
        ("index.md", "\n[gone](nowhere.md)\n", "nowhere.md"),
        ("index.md", "\n[gone](deploy.md#nowhere)\n", "#nowhere"),
        ("index.md", "\n[gone](../models/recipes/nowhere.toml)\n", "nowhere.toml"),
        ("forgotten.md", "# In no list\n", "forgotten.md"),
        ("study-flow.md", "\n```mermaid\nsequenceDiagram\n    alt else\n```\n", "alt else"),
    ],
)
def test_what_leads_nowhere_ends_the_build(tmp_path: Path, document: str, added: str, complaint: str) -> None:
    root = tmp_path / "root"
    shutil.copytree(ROOT / "docs", root / "docs")
    for each in ROOT.iterdir():
        if each.name not in ("docs", "build"):
            (root / each.name).symlink_to(each)
    with (root / "docs" / document).open("a", encoding="utf-8") as file:
        file.write(added)
    done = build(tmp_path / "site", root)
    assert done.returncode != 0
    assert complaint in done.stdout + done.stderr


def test_nothing_comes_from_elsewhere(site: Path) -> None:
    loaded = re.compile(r"""<(?:script|img|iframe|source)\b[^>]*\bsrc=["']?([^"' >]+)|<link\b([^>]*)>""")
    foreign = {
        (page.name, found[0])
        for page in site.rglob("*.html")
        for found in loaded.finditer(page.read_text(encoding="utf-8"))
        if re.search(r"https?://|=[\"']?//", found[0]) and "canonical" not in found[0]
    }
    assert not foreign
    assert not [
        sheet for sheet in site.rglob("*.css") if re.search(r"url\([\"']?(https?:)?//", sheet.read_text())
    ]


@pytest.mark.parametrize("document", sorted((ROOT / "docs").rglob("*.md")), ids=lambda path: path.stem)
def test_a_document_reads_the_same_in_the_repository_and_on_the_site(document: Path, site: Path) -> None:
    text = re.sub(
        r"^```mermaid\n.*?^```$", "", document.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL
    )
    read = MarkdownIt("commonmark").enable("table").render(text)
    inside = document.relative_to(ROOT / "docs")
    page = site / inside.with_name("index.html" if inside.name == "README.md" else f"{inside.stem}.html")
    shown = article(page)
    counts = {
        tag: (len(re.findall(rf"<{tag}[ >]", read)), len(re.findall(rf"<{tag}[ >]", shown))) for tag in BLOCKS
    }
    assert not {tag: each for tag, each in counts.items() if each[0] != each[1]}


def test_links_out_of_the_documents_lead_to_pages(site: Path) -> None:
    assert "repository/models/recipes/densenet.toml.html" in article(site / "models.html")
    assert 'name = "densenet"' in re.sub(
        r"<[^>]+>", "", article(site / "repository/models/recipes/densenet.toml.html")
    ).replace("&quot;", '"')
    # A document outside of docs leads back into them.
    assert 'href="../glossary.html"' in article(site / "repository/CONTRIBUTING.html")


def test_the_way_of_a_study_is_drawn_with_every_participant(site: Path) -> None:
    source = (ROOT / "docs" / "study-flow.md").read_text(encoding="utf-8")
    drawn = article(site / "study-flow.html")
    assert "<svg" in drawn
    assert drawn.count('class="participant"') == source.count("    participant ")
    assert drawn.count('class="head"') == len(re.findall(r"->>", source))


@pytest.mark.peer
def test_the_search_works_from_files_and_asks_nobody(site: Path, chromium: Browser) -> None:
    with chromium.new_context() as context:
        page: Any = context.new_page()
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto((site / "index.html").as_uri())
        page.click(".md-search__input")
        page.keyboard.type("storage commitment")
        page.wait_for_selector(".md-search-result__item", timeout=20_000)
        assert "storage commitment" in page.inner_text(".md-search-result__list").casefold()
    assert {url.partition(":")[0] for url in asked} <= {"file", "data", "blob"}
