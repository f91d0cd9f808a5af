"""What one process of a load does."""

import msgspec


class LoadError(Exception):
    """The load cannot go on. hint: what to do about it."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """A line of JSON on the stdin of a worker, which is not seen in the list of processes as arguments are.

    url: of the server, as http or https with the prefix of its mount; of any WebSocket as ws or wss.
    clients, first: how many this process has, and the number of its first among all.
    process: its number. members: clients of a room. rate: publications/s, or connects/s, of this process; 0: closed
    loop. in_flight: of this process. payload: bytes of data. seconds: of the measurement.
    tokens: one for each client, one for all, or none.
    """

    load: str
    url: str
    dialect: str
    channel: str
    clients: int
    first: int = 0
    process: int = 0
    members: int = 10
    rate: float = 0
    in_flight: int = 1
    payload: int = 128
    seconds: float = 10
    at_once: int = 32
    tokens: list[str] = []
    api_key: str = ""
    method: str = "echo"
    insecure: bool = False

    def token(self, number: int) -> str:
        """Of a client, by its number in this process."""
        return self.tokens[number % len(self.tokens)] if self.tokens else ""
