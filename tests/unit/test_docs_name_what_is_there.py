"""The documents name files, modules and headings: each of them is there."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "agent/README.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "docs/how-to").glob("*.md")),
]
ROOMS = "services|shared|embedded|operations|agent|fake_aws|rehearsal|drill|deploy|bench|tests|docs"
LINK = re.compile(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)")
PATH = re.compile(rf"`((?:{ROOMS}|examples)/[\w./-]*)`")
MODULE = re.compile(r"python -m ([\w.]+)")


def anchors(page: Path) -> set[str]:
    """Return the headings of *page* as a link names them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}


def missing(page: Path) -> Iterator[str]:
    """Return the places that *page* names and that do not exist."""
    text = page.read_text()
    for target, anchor in LINK.findall(text):
        linked = (page.parent / target).resolve() if target else page
        if not linked.exists() or (anchor and anchor not in anchors(linked)):
            yield f"{target}#{anchor}"
    for path in PATH.findall(text):
        if not (ROOT / path).exists():
            yield path
    for module in MODULE.findall(text):
        place = ROOT / module.replace(".", "/")
        if not (place.with_suffix(".py").is_file() or (place / "__main__.py").is_file()):
            yield module


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_each_file_module_and_heading_that_a_page_names_is_there(page: Path) -> None:
    assert list(missing(page)) == []


def test_the_readme_links_every_how_to_guide() -> None:
    readme = (ROOT / "README.md").read_text()
    guides = [page.name for page in PAGES if page.parent.name == "how-to"]
    assert len(guides) > 5
    assert [name for name in guides if f"](docs/how-to/{name})" not in readme] == []
