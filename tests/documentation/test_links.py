"""Every link within the documentation leads to a file, and to a heading that is in it."""

import re

import pytest
from documented import ROOT, fenced, pages


def anchor_of(heading):
    """As GitHub makes it."""
    kept = re.sub(r"[^\w\- ]", "", heading.strip().lower())
    return kept.replace(" ", "-")


def headings(path):
    return {anchor_of(line.lstrip("#")) for _, line, _ in fenced(path) if re.match("#+ ", line)}


def links():
    for page in pages():
        for number, line, _ in fenced(page):
            for target in re.findall(r"\]\(([^)\s]+)\)", line):
                if not target.startswith(("http://", "https://")):
                    yield page, number, target


@pytest.mark.parametrize(
    ("page", "number", "target"),
    list(links()),
    ids=lambda value: str(value.relative_to(ROOT)) if hasattr(value, "parts") else str(value),
)
def test_a_link_leads_somewhere(page, number, target):
    path, _, anchor = target.partition("#")
    at = page.parent / path if path else page
    assert at.exists(), f"{page.name}:{number}"
    assert not anchor or anchor in headings(at), f"{page.name}:{number}"


def test_anchors_are_made_as_they_are_shown():
    assert anchor_of(" While it runs: the log") == "while-it-runs-the-log"
    assert anchor_of(" Redis and Valkey: `resp:`") == "redis-and-valkey-resp"
