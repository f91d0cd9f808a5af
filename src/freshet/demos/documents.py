"""The documentation of a clone as pages, for whoever reads it beside the demos: without a build, and without a search.

`make docs` makes more of the same files. What is understood here beyond CommonMark is what they use: tables, files that
are shown whole, and blocks that are indented below a line of their own: tabs, notes and definitions.
"""

import re
import runpy
from collections.abc import Iterator
from functools import cache
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from pygments import lex
from pygments import token as kinds
from pygments.lexers import get_lexer_by_name
from pygments.util import ClassNotFound

CLONE = Path(__file__).parents[3]
DOCS = CLONE / "docs"

# By their names as they are asked for: nothing else is ever opened.
PAGES = {
    str(path.relative_to(DOCS)): path
    for path in (sorted(DOCS.rglob("*.md")) if (CLONE / "mkdocs.yml").exists() else ())
}
PICTURES = {str(path.relative_to(DOCS)): path for path in (sorted(DOCS.rglob("assets/*.[ps][nv]g")) if PAGES else ())}

ENTRY = re.compile(r"^ +- (?P<title>[^:]+):(?: (?P<name>\S+))?$", re.MULTILINE)
"""A line of the navigation in mkdocs.yml: a page, or the part whose pages are below it."""

FRONT = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)
FENCE = re.compile(r"^ *```")
HEAD = re.compile(
    r'^(?:===\s+"(?P<tab>[^"]+)"|(?:!!!|\?\?\?)\s+(?P<note>\w+)(?:\s+"(?P<title>[^"]*)")?|:   (?P<definition>.*))$'
)
"""What begins an indented block."""

INCLUDE = re.compile(r'^(?P<indent> *)--8<-- "(?P<file>[^"]+)"$')
TITLE = re.compile(r'title="(?P<title>[^"]*)"')

COLOURS = [  # the first that a token is of, by the classes that the demos' own code has
    (kinds.Comment, "comment"),
    (kinds.Generic.Prompt, "comment"),
    (kinds.Name.Decorator, "decorator"),
    (kinds.Name.Function, "call"),
    (kinds.Name.Class, "call"),
    (kinds.Name.Tag, "keyword"),
    (kinds.Keyword, "keyword"),
    (kinds.String, "string"),
    (kinds.Number, "number"),
]


def navigation() -> dict[str, dict[str, str]]:
    """The pages under the titles, and in the order, that those of `make docs` have."""
    parts: dict[str, dict[str, str]] = {}
    part = "Freshet"
    for entry in ENTRY.finditer((CLONE / "mkdocs.yml").read_text("utf-8").partition("\nnav:")[2]):
        if entry["name"] is None:
            part = entry["title"]
        else:
            parts.setdefault(part, {})[entry["title"]] = entry["name"]
    return parts


def text_of(name: str) -> str | None:
    """The Markdown of a page, also of those that are written from the code; None: there is no such page."""
    if not PAGES:
        return None
    generate = _generator()
    if name in PAGES:
        return str(generate["completed"](FRONT.sub("", PAGES[name].read_text("utf-8"))))
    writers = {f"reference/{each}.md": write for each, write in generate["PAGES"].items()}
    return str(writers[name]()) if name in writers else None


@cache
def _generator() -> dict[str, Any]:
    """What writes pages from the code, as `make docs` does."""
    return runpy.run_path(str(DOCS / "generate.py"))


def html_of(text: str) -> str:
    renderer = MarkdownIt("commonmark").enable("table")
    renderer.add_render_rule("fence", _fence)
    tokens = renderer.parse("\n".join(_blocks(text.splitlines())))
    for opening, inner in pairwise(tokens):
        if opening.type == "heading_open":
            opening.attrSet("id", _slug(inner.content))
        elif opening.type == "table_open":
            opening.attrSet("tabindex", "0")  # a wide one is scrolled, also from the keyboard
    return str(renderer.renderer.render(tokens, renderer.options, {}))


def _slug(heading: str) -> str:
    """As MkDocs makes it, so that the pages' links find it."""
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower())


def _blocks(lines: list[str]) -> Iterator[str]:
    """The lines of CommonMark. What is indented below a line of its own is no code there, as it would be here."""
    fenced, left_out, at = False, False, 0
    while at < len(lines):
        line, at = lines[at], at + 1
        head = None if fenced else HEAD.match(line)
        if head is not None:
            end = at
            while end < len(lines) and (not lines[end].strip() or lines[end].startswith("    ")):
                end += 1
            yield from _block(head, [each[4:] for each in lines[at:end]])
            at = end
        elif included := INCLUDE.match(line):
            shown = (CLONE / included["file"]).read_text("utf-8").splitlines()
            yield from (included["indent"] + each for each in shown)
        elif not fenced and (left_out or line.lstrip().startswith("<!--")):
            left_out = "-->" not in line  # a note for those who write
        else:
            fenced ^= FENCE.match(line) is not None
            yield line


def _block(head: re.Match[str], lines: list[str]) -> Iterator[str]:
    if head["note"]:
        title = head["title"] or head["note"].capitalize()
        yield from ("", *(f"> {line}" for line in (f"**{title}**", "", *_blocks(lines))), "")
    elif head["tab"]:
        yield from ("", f"**{head['tab']}**", "", *_blocks(lines), "")
    else:
        yield from ("", *_blocks([head["definition"], *lines]), "")


def _fence(self: RendererHTML, tokens: list[Token], index: int, options: Any, env: Any) -> str:
    token = tokens[index]
    language = token.info.split(" ")[0]
    title = TITLE.search(token.info)
    name = f'<div class="file">{escape(title["title"])}</div>' if title else ""
    return f'<div class="listing">{name}<pre tabindex="0"><code>{_coloured(token.content, language)}</code></pre></div>'


def _coloured(code: str, language: str) -> str:
    try:
        lexer = get_lexer_by_name(language or "text", stripnl=False)
    except ClassNotFound:
        return escape(code)
    parts = []
    for kind, text in lex(code, lexer):
        name = next((name for of, name in COLOURS if kind in of), None)
        parts.append(f'<span class="code-{name}">{escape(text)}</span>' if name else escape(text))
    return "".join(parts)
