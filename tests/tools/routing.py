"""Routes of Starlette, quicker to make: an application compiles fifty paths, and the tests make thousands of those."""

from functools import cache

from starlette import routing


def prepare_routes() -> None:
    """For this process, once. What is compiled is only read."""
    routing.compile_path = cache(routing.compile_path)
