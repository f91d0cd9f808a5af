"""What there is to read beside the demos: the source of the package as it runs, and the documentation of a clone."""

from html import escape
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, PlainTextResponse, Response
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
<header class="top"><a class="brand" href="/">Freshet</a></header>
<main id="main">
<div class="heading"><h1>{title}</h1><p>{line}</p></div>
{folders}
</main>
</body>
</html>
"""


def index(title: str, line: str, names: list[str]) -> Response:
    """A page of links to files, folder by folder."""
    folders: dict[str, list[str]] = {}
    for name in names:
        folder, _, file = name.rpartition("/")
        folders.setdefault(folder, []).append(f'<li><a href="{escape(name)}">{escape(file)}</a></li>')
    lists = (
        f"<section><h2>{escape(folder or '/')}</h2><ul>{''.join(items)}</ul></section>"
        for folder, items in sorted(folders.items())
    )
    page = PAGE.format(title=title, line=line, folders=f'<div class="folders">{"".join(lists)}</div>')
    return HTMLResponse(page, headers=HEADERS)


def text(files: dict[str, Path], name: str) -> Response:
    if path := files.get(name):
        return FileResponse(path, media_type="text/plain; charset=utf-8", headers=HEADERS)
    return PlainTextResponse("There is no such file.\n", 404, headers=HEADERS)


async def source(request: Request) -> Response:
    """A module of the package, as it runs."""
    if name := request.path_params["name"]:
        return text(SOURCES, name)
    return index("Source", "The package as it runs on this server, file by file.", list(SOURCES))


async def document(request: Request) -> Response:
    """The documentation as it is written; `make docs` makes pages of it, which then are here instead."""
    if name := request.path_params["name"]:
        return text(DOCUMENTS, name)
    if not DOCUMENTS:
        return index("Documentation", "It is in the repository: the folder docs/, and <code>make docs</code>.", [])
    line = "As it is written. For pages with a search, run <code>make docs</code> and start this server again."
    return index("Documentation", line, list(DOCUMENTS))


def routes() -> list[BaseRoute]:
    built = CLONE / "build" / "docs"
    pages: BaseRoute = Route("/docs/{name:path}", document)
    if DOCUMENTS and (built / "index.html").exists():
        pages = Mount("/docs", StaticFiles(directory=built, html=True))
    return [Route("/source/{name:path}", source), pages]
