"""A file of SQLite is ours by what stands in its head, and is the one that was opened."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from freshet.errors import ConfigError
from freshet.runtime.sqlite_file import SqliteForm, begin, check_same, inode_of, make, path_of

FORM = SqliteForm(application=7, version=2, schema="CREATE TABLE a (b); CREATE TABLE c (d);")


@pytest.mark.parametrize("url", ["sqlite:///", "sqlite://a.db", "redis://a", ""])
def test_an_url_without_a_path_is_refused_with_the_option_and_an_example(url: str) -> None:
    with pytest.raises(ConfigError, match=r"rooms\.store: .* such as sqlite:///rooms\.db"):
        path_of(url, "rooms.store", "rooms.db")


def test_a_new_file_is_for_nobody_else_and_gets_its_tables_once(tmp_path: Path) -> None:
    path = path_of(f"sqlite:///{tmp_path}/a.db", "engine", "a.db")
    make(path)
    assert path.stat().st_mode & 0o077 == 0
    with closing(sqlite3.connect(path)) as disk:
        assert begin(disk, FORM) == begin(disk, FORM) == ""
        assert disk.execute("SELECT name FROM sqlite_master ORDER BY name").fetchall() == [("a",), ("c",)]


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (FORM._replace(application=8), "is a database of something else"),
        (FORM._replace(version=3), "has the form 3, this Freshet reads 2"),
    ],
)
def test_a_file_of_another_form_is_refused_and_stays_as_it_is(other: SqliteForm, why: str) -> None:
    with closing(sqlite3.connect(":memory:")) as disk:
        begin(disk, other)
        assert begin(disk, FORM) == why
        assert disk.execute("PRAGMA user_version").fetchone() == (other.version,)


def test_a_file_that_was_removed_or_replaced_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    make(path)
    first = inode_of(path)
    check_same(path, first)
    path.rename(tmp_path / "b.db")
    with pytest.raises(sqlite3.OperationalError, match="removed or replaced"):
        check_same(path, first)
    make(path)
    with pytest.raises(sqlite3.OperationalError, match="removed or replaced"):
        check_same(path, first)
