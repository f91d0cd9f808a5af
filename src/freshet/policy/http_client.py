"""What asks others over HTTP: `httpx`, which is an extra, and slow to load for those who have no use for it."""

from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING

from freshet.errors import ConfigError

if TYPE_CHECKING:
    from httpx import AsyncClient, Response

    __all__ = ["AsyncClient", "Response", "httpx_for"]


def httpx_for(option: str) -> ModuleType:
    """httpx. Raises ConfigError, which names the package that an option needs, when it is not installed."""
    if find_spec("httpx") is None:
        raise ConfigError(option, "this needs a package: pip install httpx")
    import httpx  # noqa: PLC0415 - see above

    return httpx
