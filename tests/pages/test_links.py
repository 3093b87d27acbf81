"""Every link of README and the docs leads somewhere; no network is asked."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [
    *(ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "CHANGELOG")),
    *sorted(DOCS.glob("*.md")),
    *sorted(DOCS.glob("*.ipynb")),
]
CODE = re.compile(r"^(```+).*?^\1|`[^`\n]+`", re.DOTALL | re.MULTILINE)
INCLUDE = re.compile(r"^```\{include\} (\S+)\n(.*?)```", re.DOTALL | re.MULTILINE)
OPTION = re.compile(r'^:(start-after|end-before): "(.*)"$', re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)")


def text_of(page: Path) -> str:
    """The Markdown of a page, or of a notebook's text; what it includes is in it."""
    text = page.read_text(encoding="utf-8")
    if page.suffix == ".ipynb":
        cells = json.loads(text)["cells"]
        return "\n\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
    return INCLUDE.sub(lambda block: included(page, block), text)


def included(page: Path, block: re.Match[str]) -> str:
    """What an include directive of a page takes from another file."""
    text = (page.parent / block[1]).read_text(encoding="utf-8")
    options = dict(OPTION.findall(block[2]))
    for mark in options.values():
        assert mark in text, f"{page.name}: {block[1]} has no {mark!r}"
    text = text.partition(options["start-after"])[2] if "start-after" in options else text
    return text.partition(options["end-before"])[0] if "end-before" in options else text


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and the docs make them."""
    prose = re.sub(r"^(```+).*?^\1", "", text_of(page), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.*)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in headings}


def broken_links(page: Path, text: str) -> list[str]:
    """The links of a text on a page that lead nowhere."""
    broken = []
    for link in LINK.findall(CODE.sub("", text)):
        if re.match(r"https?:|mailto:", link):
            continue
        place, _, anchor = link.partition("#")
        target = page if not place else page.parent / place
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    return broken


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_links_of_a_page_lead_somewhere(page):
    own = page.read_text(encoding="utf-8") if page.suffix == ".md" else text_of(page)
    assert broken_links(page, INCLUDE.sub("", own)) == []
    for block in INCLUDE.finditer(own):
        assert broken_links((page.parent / block[1]).resolve(), included(page, block)) == []


def test_a_link_that_leads_nowhere_is_found(tmp_path):
    (tmp_path / "b.md").write_text("# One, two\n\n```\n# no heading\n```\n")
    page = tmp_path / "a.md"
    text = "[x](b.md#one-two) `[x](code)` [x](b.md#no-heading) [x](c.md) [x](https://a.b) [x](#a)"
    page.write_text(text)
    assert broken_links(page, text) == ["b.md#no-heading", "c.md", "#a"]


def test_every_page_is_in_the_contents():
    trees = re.findall(r"```\{toctree\}\n(.*?)```", (DOCS / "index.md").read_text(), re.DOTALL)
    listed = {line for tree in trees for line in tree.splitlines() if line and line[0] != ":"}
    pages = {page.stem for page in PAGES if page.parent == DOCS}
    assert listed == pages - {"index"}
