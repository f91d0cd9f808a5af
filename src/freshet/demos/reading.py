"""What there is to read beside the demos: the source of the package as it runs, and the documentation of a clone."""

from html import escape
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from freshet.demos import documents
from freshet.demos.documents import CLONE

PACKAGE = Path(__file__).parents[1]
HEADERS = {
    "Cache-Control": "no-cache",  # the files' names do not change with their content
    "Content-Security-Policy": "default-src 'self'; object-src 'none'; base-uri 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}

# By their names as they are asked for: nothing else is ever opened.
SOURCES = {str(path.relative_to(PACKAGE)): path for path in sorted(PACKAGE.rglob("*.py"))}
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title} · Freshet</title>
<link rel="icon" href="/icon.svg">
<link rel="stylesheet" href="/assets/shared.css">
<link rel="stylesheet" href="/reading.css">
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
{content}
</main>
</body>
</html>
"""


HEADING = '<div class="heading"><h1>{title}</h1><p>{line}</p></div>'


def page(title: str, content: str, status: int = 200) -> Response:
    return HTMLResponse(PAGE.format(title=escape(title), content=content), status, headers=HEADERS)


def missing() -> Response:
    line = 'The demos are on the <a href="/">home page</a>.'
    return page("There is no such page", HEADING.format(title="There is no such page", line=line), 404)


def by_folder(names: list[str]) -> dict[str, dict[str, str]]:
    folders: dict[str, dict[str, str]] = {}
    for name in names:
        folder, _, file = name.rpartition("/")
        folders.setdefault(folder or "/", {})[file] = name
    return dict(sorted(folders.items()))


async def source(request: Request) -> Response:
    """A module of the package, as it runs."""
    name = request.path_params["name"]
    if name:
        found = SOURCES.get(name)
        return FileResponse(found, media_type="text/plain; charset=utf-8", headers=HEADERS) if found else missing()
    lists = (
        f"<section><h2>{escape(folder)}</h2><ul>"
        + "".join(f'<li><a href="{escape(name)}">{escape(file)}</a></li>' for file, name in files.items())
        + "</ul></section>"
        for folder, files in by_folder(list(SOURCES)).items()
    )
    heading = HEADING.format(title="Source", line="The package as it runs on this server, file by file.")
    return page("Source", f'{heading}<div class="folders">{"".join(lists)}</div>')


async def style(_request: Request) -> Response:
    return FileResponse(Path(__file__).with_name("reading.css"), headers=HEADERS)


def document(request: Request) -> Response:
    """A page of the documentation; `make docs` makes pages with a search, which then are here instead."""
    name = request.path_params["name"] or "index.md"
    if picture := documents.PICTURES.get(name):
        return FileResponse(picture, headers=HEADERS)
    if not documents.PAGES:
        line = "It is in the repository: the folder docs/, and <code>make docs</code>."
        return page("Documentation", HEADING.format(title="Documentation", line=line))
    text = documents.text_of(name)
    if text is None:
        return missing()
    parts = documents.navigation()
    title = next((title for pages in parts.values() for title, each in pages.items() if each == name), name)
    content = f'<nav class="contents" aria-label="Documentation">{_contents(parts, name)}</nav>'
    return page(title, f'<div class="reading">{content}<article>{documents.html_of(text)}</article></div>')


def _contents(parts: dict[str, dict[str, str]], here: str) -> str:
    def link(title: str, name: str) -> str:
        current = ' aria-current="page"' if name == here else ""
        return f'<li><a href="/docs/{escape(name)}"{current}>{escape(title)}</a></li>'

    return "".join(
        f"<h2>{escape(part)}</h2><ul>{''.join(link(title, name) for title, name in pages.items())}</ul>"
        for part, pages in parts.items()
    )


def routes() -> list[BaseRoute]:
    built = CLONE / "build" / "docs"
    pages: BaseRoute = Route("/docs/{name:path}", document)
    if documents.PAGES and (built / "index.html").exists():
        pages = Mount("/docs", StaticFiles(directory=built, html=True))
    return [Route("/source/{name:path}", source), Route("/reading.css", style), pages]
