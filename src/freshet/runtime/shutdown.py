"""How a server that ends lets what runs in it drain first, whatever application lies between the two.

A server that can wait sets `DRAINS` to a list of its own before it runs; whoever starts under it finds the list in his
context, and adds what is to be called. Under a server that knows nothing of it there is none.
"""

from collections.abc import Awaitable, Callable
from contextvars import ContextVar

Drain = Callable[[], Awaitable[None]]

DRAINS: ContextVar[list[Drain] | None] = ContextVar("freshet_drains", default=None)
