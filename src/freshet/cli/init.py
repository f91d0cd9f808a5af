"""`freshet init`: an application to begin with, which runs as it is."""

import secrets
from pathlib import Path
from typing import Annotated

import typer

from freshet.cli.console import fail, out
from freshet.config import reference

TEMPLATES = Path(__file__).parent / "templates"
SECRETS = ".env"


def init(
    folder: Annotated[Path, typer.Argument(metavar="[DIRECTORY]", help="Where; it is made if need be.")] = Path(),
) -> None:
    """Write an application to begin with: app.py, index.html, freshet.toml, and secrets in .env.

    [bold]Example[/bold]

      freshet init hello
      cd hello
      freshet serve app:api
    """
    files = {
        "app.py": (TEMPLATES / "app.txt").read_text("utf-8"),
        "index.html": (TEMPLATES / "index.html").read_text("utf-8"),
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
    steps = ["pip install fastapi", "freshet serve app:api", ""]
    if folder != Path():
        steps.insert(0, f"cd {folder}")
    out.print("\n".join(f"  {step}" for step in steps), highlight=False, markup=False)
    out.print("and open http://127.0.0.1:8000 in two windows.", highlight=False)


def _secrets() -> str:
    return (
        "# What nobody else may know. Every freshet command reads this file; keep it out of version control.\n"
        f"FRESHET_SECRET={secrets.token_urlsafe(32)}\n"
        f"FRESHET_API_KEY={secrets.token_urlsafe(32)}\n"
    )


def _configuration() -> str:
    """Every option with its default, commented out, and behind them a rule."""
    head, _, rules = (TEMPLATES / "freshet.toml").read_text("utf-8").partition("# OPTIONS\n")
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
