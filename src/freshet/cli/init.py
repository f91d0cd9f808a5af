"""`freshet init`: an application to begin with, which runs as it is."""

import secrets
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from freshet.cli.console import fail
from freshet.cli.terminal import out
from freshet.config import reference

TEMPLATES = Path(__file__).parent / "templates"
SECRETS = ".env"
REQUIREMENTS = "# Freshet is installed from its own wheel: the freshet of PyPI is another project.\nfastapi\n"


class Template(StrEnum):
    """A folder of templates/ each."""

    CHAT = "chat"
    AI = "ai"
    DASHBOARD = "dashboard"
    API = "api"


# How each is tried, once it runs.
TRY = {
    Template.CHAT: "and open http://127.0.0.1:8000 in two windows.",
    Template.AI: "and open http://127.0.0.1:8000, ask something, and reload while it is answered.",
    Template.DASHBOARD: "and open http://127.0.0.1:8000.",
    Template.API: """and subscribe in a second terminal, in the same folder:

  freshet tail orders:alice --as alice --url http://127.0.0.1:8000/live

Then place an order of alice at http://127.0.0.1:8000/docs.""",
}


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIRECTORY", help="Where; it is made if need be.")] = Path(),
    template: Annotated[Template, typer.Option(help="What it is.")] = Template.CHAT,
) -> None:
    """Write an application to begin with: its page, its test, a Dockerfile, and secrets in .env.

    A chat; AI answers that survive a reload; a dashboard; or an API whose changes are live, without a page.

    [bold]Examples[/bold]

      freshet init hello
      cd hello
      freshet serve app:api --reload

      freshet init --template dashboard board
    """
    own = _own(template)
    files = {
        **own,
        "Dockerfile": _template("Dockerfile.txt").replace("FILES", " ".join([*_served(own), "freshet.toml"])),
        "requirements.txt": REQUIREMENTS,
        "freshet.toml": _configuration(),
        ".gitignore": f"{SECRETS}\n__pycache__/\n",
        SECRETS: _secrets(),
    }
    taken = [name for name in files if (folder / name).exists()]
    if taken:
        fail(
            f"{folder / taken[0]} is there already; nothing was written.", "Choose another folder: freshet init NAME", 1
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            path = folder / name
            path.touch(0o600 if name == SECRETS else 0o666)
            path.write_text(text, "utf-8")
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}", "Choose another folder: freshet init NAME", 1)
    out.print(f"Wrote {', '.join(files)}. Next:\n", highlight=False)
    steps = ["pip install fastapi watchfiles pytest", "freshet serve app:api --reload", ""]
    if folder != Path():
        steps.insert(0, f"cd {folder}")
    out.print("\n".join(f"  {step}" for step in steps), highlight=False, markup=False)
    out.print(f"{TRY[template]} `pytest` tests it.", highlight=False, markup=False)


def _served(names: Iterable[str]) -> list[str]:
    """What the server needs: all but the tests."""
    return [name for name in names if not name.startswith("test_")]


def _own(template: Template) -> dict[str, str]:
    """The files of one template, by their names. Python is kept as text: it is nobody's module before it is written."""
    paths = sorted((TEMPLATES / template).iterdir())
    return {path.name.replace(".txt", ".py"): path.read_text("utf-8") for path in paths}


def _template(name: str) -> str:
    return (TEMPLATES / name).read_text("utf-8")


def _secrets() -> str:
    return (
        "# What nobody else may know. Freshet reads this file, whoever runs it; keep it out of version control.\n"
        f"FRESHET_SECRET={secrets.token_urlsafe(32)}\n"
        f"FRESHET_API_KEY={secrets.token_urlsafe(32)}\n"
    )


def _configuration() -> str:
    """Every option with its default, commented out, and behind them a rule."""
    head, _, rules = _template("freshet.toml").partition("# OPTIONS\n")
    tables: dict[str, list[str]] = {}
    for option in reference():
        table, _, name = option.path.rpartition(".")
        if table.startswith("channels") or not option.default:
            continue
        shown = '"..."' if option.default == "null" else option.default
        unit = f" ({option.unit})" if option.unit else ""
        tables.setdefault(table, []).append(f"# {name} = {shown}\n#     {option.doc}{unit}\n")
    top = tables.pop("", [])
    parts = ["".join(top), *(f"# [{table}]\n{''.join(lines)}" for table, lines in tables.items())]
    return head + "\n".join(parts) + rules
