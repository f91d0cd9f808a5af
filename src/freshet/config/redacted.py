"""A table of options that holds a secret shows its name and nothing else, in a log and on a console."""


class Redacted:
    """A base to stand before `Struct`."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(...)"

    def __rich_repr__(self) -> list[tuple[str, object]]:
        return []
