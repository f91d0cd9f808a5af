"""What there is to read beside the demos: the source of the package as it runs, and the documentation of a clone."""

import re
from html import escape
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

PACKAGE = Path(__file__).parents[1]
CLONE = PACKAGE.parents[1]
HEADERS = {
    "Cache-Control": "no-cache",  # the files' names do not change with their content
    "Content-Security-Policy": "default-src 'self'; object-src 'none'; base-uri 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}

# By their names as they are asked for: nothing else is ever opened.
SOURCES = {str(path.relative_to(PACKAGE)): path for path in sorted(PACKAGE.rglob("*.py"))}
DOCUMENTS = {
    str(path.relative_to(CLONE / "docs")): path
    for path in (sorted((CLONE / "docs").rglob("*.md")) if (CLONE / "mkdocs.yml").exists() else ())
}
ENTRY = re.compile(r"^ +- (?P<title>[^:]+):(?: (?P<name>\S+))?$", re.MULTILINE)
"""A line of the navigation in mkdocs.yml: a page, or the part whose pages are below it."""

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title} · Freshet</title>
<link rel="icon" href="/icon.svg">
<link rel="stylesheet" href="/assets/shared.css">
<script src="/theme.js"></script>
</head>
<body>
<a class="skip" href="#main">Skip to the content</a>
<header class="top">
<a class="brand" href="/">
<svg viewBox="0 0 16 16" aria-hidden="true"><path d="M1 5c3-3 4 3 7 0s4 3 7 0M1 11c3-3 4 3 7 0s4 3 7 0"/></svg>
Freshet</a>
<nav aria-label="Pages">
<a href="/">Demos</a><a href="/docs/">Docs</a><a href="/source/">Source</a>
</nav>
</header>
<main id="main" tabindex="-1">
<div class="heading"><h1>{title}</h1><p>{line}</p></div>
{folders}
</main>
</body>
</html>
"""


def index(title: str, line: str, parts: dict[str, dict[str, str]]) -> Response:
    """A page of links. parts: by their headings, the files by what they are called."""
    lists = (
        f"<section><h2>{escape(heading)}</h2><ul>"
        + "".join(f'<li><a href="{escape(name)}">{escape(called)}</a></li>' for called, name in files.items())
        + "</ul></section>"
        for heading, files in parts.items()
    )
    page = PAGE.format(title=title, line=line, folders=f'<div class="folders">{"".join(lists)}</div>')
    return HTMLResponse(page, headers=HEADERS)


def missing() -> Response:
    line = 'The demos are on the <a href="/">home page</a>.'
    return HTMLResponse(PAGE.format(title="There is no such page", line=line, folders=""), 404, headers=HEADERS)


def by_folder(names: list[str]) -> dict[str, dict[str, str]]:
    folders: dict[str, dict[str, str]] = {}
    for name in names:
        folder, _, file = name.rpartition("/")
        folders.setdefault(folder or "/", {})[file] = name
    return dict(sorted(folders.items()))


def by_navigation() -> dict[str, dict[str, str]]:
    """The pages under the titles, and in the order, that those of `make docs` have."""
    parts: dict[str, dict[str, str]] = {}
    part = "Freshet"
    for entry in ENTRY.finditer((CLONE / "mkdocs.yml").read_text("utf-8").partition("\nnav:")[2]):
        if entry["name"] is None:
            part = entry["title"]
        elif entry["name"] in DOCUMENTS:
            parts.setdefault(part, {})[entry["title"]] = entry["name"]
    return parts


def text(files: dict[str, Path], name: str) -> Response:
    if path := files.get(name):
        return FileResponse(path, media_type="text/plain; charset=utf-8", headers=HEADERS)
    return missing()


async def source(request: Request) -> Response:
    """A module of the package, as it runs."""
    if name := request.path_params["name"]:
        return text(SOURCES, name)
    return index("Source", "The package as it runs on this server, file by file.", by_folder(list(SOURCES)))


async def document(request: Request) -> Response:
    """The documentation as it is written; `make docs` makes pages of it, which then are here instead."""
    if name := request.path_params["name"]:
        return text(DOCUMENTS, name)
    if not DOCUMENTS:
        return index("Documentation", "It is in the repository: the folder docs/, and <code>make docs</code>.", {})
    line = "As it is written. For pages with a search, run <code>make docs</code> and start this server again."
    return index("Documentation", line, by_navigation())


def routes() -> list[BaseRoute]:
    built = CLONE / "build" / "docs"
    pages: BaseRoute = Route("/docs/{name:path}", document)
    if DOCUMENTS and (built / "index.html").exists():
        pages = Mount("/docs", StaticFiles(directory=built, html=True))
    return [Route("/source/{name:path}", source), pages]
