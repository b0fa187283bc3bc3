"""Checks a built site: every link, anchor and asset is in it. Says how many, or what is missing."""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

# Of a link: where a reader may go. Of all others the browser fetches by itself, to show the page.
GOES = {("a", "href")}
FETCHES = {("img", "src"), ("script", "src"), ("link", "href"), ("iframe", "src"), ("object", "data")}


class Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.ids = set()
        self.links = []  # (attribute of which tag, address)

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        for name in ("id", "name"):
            if values.get(name):
                self.ids.add(values[name])
        for name in ("href", "src", "data"):
            if (tag, name) in GOES | FETCHES and values.get(name):
                self.links.append(((tag, name), values[name]))


def read(path):
    page = Page()
    page.feed(path.read_text("utf-8"))
    return page


def problems(site):
    pages = {path: read(path) for path in sorted(site.rglob("*.html"))}
    checked = 0
    for path, page in pages.items():
        if path.name == "404.html":  # Served below any address, and so full of absolute ones.
            continue
        for where, address in page.links:
            parts = urlsplit(address)
            if parts.scheme or parts.netloc:
                if where in FETCHES and parts.scheme != "data":
                    yield f"{path.relative_to(site)}: fetches {address}"
                continue
            checked += 1
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if target.is_dir():
                target /= "index.html"
            if not target.is_file():
                yield f"{path.relative_to(site)}: {address} is not there"
            elif parts.fragment and target in pages:
                anchor = unquote(parts.fragment)
                if anchor not in pages[target].ids and not anchor.startswith("__"):
                    yield f"{path.relative_to(site)}: {address}: the page has no such heading"
    if len(pages) < 20 or checked < 1000:
        yield f"{len(pages)} pages and {checked} links: this is not the whole site"
    print(f"{len(pages)} pages, {checked} links within them")


def main():
    found = list(problems(Path(sys.argv[1]).resolve()))
    for problem in found:
        print(problem, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
