"""Check the built site: every link leads somewhere, and nothing of another host is loaded.

    python scripts/check_site.py site

Pages may link to other hosts for people to follow; scripts, styles, pictures and fonts have to be the site's own.
"""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

#: The attribute by which an element loads a file.
LOADS = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src", "video": "src"}

#: An address of another host.
FOREIGN = re.compile(r"(?!data:)(?:[a-z]+:|//)", re.IGNORECASE)


class Page(HTMLParser):
    """The names that a page's elements have, where its links lead, and what it loads."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if tag in LOADS and LOADS[tag] in given and given.get("rel") not in ("canonical", "search"):
            self.loads.append(given[LOADS[tag]])


def problems(site: Path) -> list[str]:
    """A line for each link that leads nowhere and for each file of another host."""
    pages = {path.resolve(): Page(path) for path in sorted(site.rglob("*.html"))}
    found = [] if pages else [f"{site}: no pages"]
    for path, page in pages.items():
        found += [f"{path}: loads {address}" for address in page.loads if FOREIGN.match(address)]
        for address in {*page.links, *page.loads}:
            parts = urlsplit(address)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            anchor = unquote(parts.fragment)
            if not target.is_file():
                found.append(f"{path}: no file for {address}")
            elif anchor and target in pages and anchor not in pages[target].anchors:
                found.append(f"{path}: no place for {address}")
    for style in site.rglob("*.css"):
        addresses = re.findall(r"(?:url\(|@import)\s*['\"]?([^)'\";]+)", style.read_text(encoding="utf-8"))
        found += [f"{style}: loads {address}" for address in addresses if FOREIGN.match(address)]
    return found


if __name__ == "__main__":
    site = Path(sys.argv[1])
    if found := problems(site):
        sys.exit("\n".join(found))
    pages = len(list(site.rglob("*.html")))
    print(f"{site}: {pages} pages; every link leads somewhere, and nothing is loaded from another host")
