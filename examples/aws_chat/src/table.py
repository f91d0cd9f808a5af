"""The ids of those who are connected. At AWS this is a table in DynamoDB."""

import os
import sqlite3


class Table:
    def __init__(self) -> None:
        self._rows = sqlite3.connect(os.environ.get("TABLE", "connections.db"), timeout=10, isolation_level=None)
        self._rows.execute("CREATE TABLE IF NOT EXISTS connections (id TEXT PRIMARY KEY)")

    def add(self, id: str) -> None:
        self._rows.execute("INSERT OR IGNORE INTO connections VALUES (?)", (id,))

    def remove(self, id: str) -> None:
        self._rows.execute("DELETE FROM connections WHERE id = ?", (id,))

    def all(self) -> list[str]:
        return [id for (id,) in self._rows.execute("SELECT id FROM connections")]

    def __del__(self) -> None:
        self._rows.close()
