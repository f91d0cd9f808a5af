"""A worker of gunicorn: options of uvicorn are set in a class of one's own."""

from uvicorn_worker import UvicornWorker

from tests.hosts.hosts import PING


class QuickPings(UvicornWorker):  # type: ignore[misc] - it has no types
    CONFIG_KWARGS = {**UvicornWorker.CONFIG_KWARGS, "ws_ping_interval": PING, "ws_ping_timeout": 2 * PING}  # noqa: RUF012
