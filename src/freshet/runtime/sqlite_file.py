"""A file of SQLite, as the engine and the store of one host have it: whose it is, and whether it is still that."""

import sqlite3
from pathlib import Path
from typing import NamedTuple

from freshet.errors import ConfigError

SCHEME = "sqlite:///"

Inode = tuple[int, int]
"""Device and number; (0, 0): there is no file."""


class SqliteForm(NamedTuple):
    """application, version: what SQLite keeps in the head of a file, by which it is known. schema: of a new one."""

    application: int
    version: int
    schema: str


def path_of(url: str, option: str, example: str) -> Path:
    """The path of `sqlite:///` and a path. Raises ConfigError for another URL."""
    path = url.removeprefix(SCHEME) if url.startswith(SCHEME) else ""
    if not path:
        raise ConfigError(option, f"expected {SCHEME} and a path, such as {SCHEME}{example}, got {url!r}")
    return Path(path)


def make(path: Path) -> None:
    """A file that nobody else reads, if there is none. Raises OSError."""
    if not path.exists():
        path.touch(0o600)


def begin(disk: sqlite3.Connection, form: SqliteForm) -> str:
    """Make the tables of a new file, within a transaction. Why the file is not ours; empty: it is."""
    (application,) = disk.execute("PRAGMA application_id").fetchone()
    (version,) = disk.execute("PRAGMA user_version").fetchone()
    if not disk.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        for statement in form.schema.split(";"):
            disk.execute(statement)
        disk.execute(f"PRAGMA application_id = {form.application}")
        disk.execute(f"PRAGMA user_version = {form.version}")
    elif application != form.application:
        return "is a database of something else"
    elif version != form.version:
        return f"has the form {version}, this Freshet reads {form.version}"
    return ""


def inode_of(path: Path) -> Inode:
    """Which file a path leads to."""
    try:
        found = path.stat()
    except OSError:
        return 0, 0
    return found.st_dev, found.st_ino


def check_same(path: Path, inode: Inode) -> None:
    """Raises `sqlite3.OperationalError` for another file: what is written would be gone with the process."""
    if inode_of(path) != inode:
        raise sqlite3.OperationalError("the file was removed or replaced while it was in use; restart the server")
