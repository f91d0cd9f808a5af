"""The servers under which every client is tried, and what `docs/guide/hosts.md` says that they cannot do."""

from typing import NamedTuple

from tests.tools.patience import seconds

PING = max(3, round(seconds(1)))  # seconds; all clients share one event loop, on a machine that may be busy
PATIENT = round(seconds(4))  # seconds for which a server waits for what does not end


class AsgiHost(NamedTuple):
    """A server, by its name in `shells.COMMANDS`.

    options: its arguments. ends: it does with SIGTERM, whoever is connected. notices: who is gone from a WebSocket that
    is quiet, and has no heartbeat of its own, is found out.
    """

    name: str
    options: str = ""
    ends: bool = True
    notices: bool = True


_UVICORN = f"--ws-ping-interval {PING} --ws-ping-timeout {2 * PING}"

FRESHET = AsgiHost("freshet")
UVICORN = AsgiHost("uvicorn", _UVICORN)
UVICORN_WORKERS = AsgiHost("uvicorn, two workers", _UVICORN)
GUNICORN = AsgiHost("gunicorn", "--worker-class tests.hosts.quick_pings.QuickPings")
HYPERCORN = AsgiHost("hypercorn", f"--graceful-timeout {PATIENT}", ends=False, notices=False)
HYPERCORN_ALONE = AsgiHost("hypercorn, no workers", f"--websocket-ping-interval {PING}", notices=False)
GRANIAN = AsgiHost("granian", notices=False)
DAPHNE = AsgiHost("daphne", f"--ping-interval {PING} --ping-timeout {2 * PING}")

HOSTS = (FRESHET, UVICORN, UVICORN_WORKERS, GUNICORN, HYPERCORN_ALONE, HYPERCORN, GRANIAN, DAPHNE)
