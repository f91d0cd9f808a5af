"""Every error that Freshet raises on purpose, and the two tables of codes that clients see.

    FreshetError
    +-- Refusal              a reply to one command; the session stays
    +-- Disconnect           the end of a session; the code says whether the client reconnects
    +-- ConfigError          a mistake in the configuration, named with its path
    +-- EngineUnavailable    the engine gave no reply: nobody knows whether it was done
        +-- TooLargeForEngine    it takes nothing of that size
    +-- StoreUnavailable     what rooms keep could not be read or written
    +-- StaleOwner           another node has taken the room over: nothing was written
    +-- PositionConflict     a log does not stand where its writer has read that it does: nothing was appended
    +-- NotRunning           the application asked for something before its start, or after its end

The codes are those of the Centrifugal client protocol. Disconnects: 3000-3499 and 4000-4499: the client reconnects;
3500-3999 and 4500-4999: it does not. Codes from 4000 on are for applications.
"""

from typing import Self


def is_close_code(code: int) -> bool:
    """Whether a Close frame may carry `code` (RFC 6455, 7.4, and IANA's registry for 1012 to 1014)."""
    # RFC 6455, 7.4.1: 1004 is "Reserved", and 1005, 1006 and 1015 "MUST NOT be set as a status code in a Close control
    # frame by an endpoint". 7.4.2: 1000-2999 are for the protocol, of which the rest is undefined; 3000-4999 are free.
    return (1000 <= code <= 1014 and code not in (1004, 1005, 1006)) or 3000 <= code <= 4999


class FreshetError(Exception):
    """The root of all errors that Freshet raises on purpose."""


def _text(message: str) -> str:
    """As UTF-8 can write it: an application may quote half of a character that a client sent."""
    return message if message.isascii() else message.encode(errors="replace").decode()


class Refusal(FreshetError):
    """One command is refused; the client gets `code` and `message` as the reply and its session goes on.

    code: 100-120 are Freshet's (the constructors below); 1000 and up are for applications, up to 4294967295.
    message: for people; goes to the client as it is.
    temporary: the client may try the same again later.
    """

    by_application = False  # True: a hook has raised it, of which no option of the server is the cause

    def __init__(self, code: int, message: str, *, temporary: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.message = _text(message)
        self.temporary = temporary

    @classmethod
    def internal(cls, message: str = "internal server error") -> Self:
        return cls(100, message, temporary=True)

    @classmethod
    def timeout(cls) -> Self:
        return cls(100, "the server did not answer in time", temporary=True)

    @classmethod
    def unauthorized(cls, message: str = "unauthorized") -> Self:
        return cls(101, message)

    @classmethod
    def unknown_channel(cls, message: str = "unknown channel") -> Self:
        return cls(102, message)

    @classmethod
    def permission_denied(cls, message: str = "permission denied") -> Self:
        return cls(103, message)

    @classmethod
    def method_not_found(cls, message: str = "method not found") -> Self:
        return cls(104, message)

    @classmethod
    def already_subscribed(cls, message: str = "already subscribed") -> Self:
        return cls(105, message)

    @classmethod
    def limit_exceeded(cls, message: str = "limit exceeded") -> Self:
        return cls(106, message)

    @classmethod
    def bad_request(cls, message: str = "bad request") -> Self:
        return cls(107, message)

    @classmethod
    def not_available(cls, message: str = "not available") -> Self:
        return cls(108, message)

    @classmethod
    def token_expired(cls, message: str = "token expired") -> Self:
        return cls(109, message)

    @classmethod
    def expired(cls, message: str = "expired") -> Self:
        return cls(110, message)

    @classmethod
    def too_many_requests(cls, message: str = "too many requests") -> Self:
        return cls(111, message, temporary=True)

    @classmethod
    def unrecoverable_position(cls, message: str = "unrecoverable position") -> Self:
        return cls(112, message)

    @classmethod
    def conflict(cls, message: str = "conflict") -> Self:
        return cls(120, message)


class Disconnect(FreshetError):
    """The end of a session: a WebSocket closes with `code` and `reason`.

    code: one of the constructors below, or 4000-4999 for applications.
    reason: up to 123 bytes of UTF-8; goes to the client as it is.
    client_code: with what the client closed its WebSocket, if it did: 1005 for no code, 1006 when it was cut off.

    Raises ValueError for a code with which no WebSocket can close: its client would stay, or take it for a broken line.
    """

    client_code: int = 0

    def __init__(self, code: int, reason: str) -> None:
        if not is_close_code(code):
            raise ValueError(f"code: expected 4000-4499 (the client reconnects) or 4500-4999 (it does not), got {code}")
        super().__init__(f"{code} {reason}")
        self.code = code
        self.reason = _text(reason)

    @property
    def reconnect(self) -> bool:
        """Whether the client is to reconnect."""
        return self.code < 3500 or 4000 <= self.code < 4500

    @classmethod
    def normal(cls) -> Self:
        return cls(3000, "connection closed")

    @classmethod
    def too_big(cls, size: int = 0, option: str = "") -> Self:
        """RFC 6455, 7.4.1. size: bytes that were allowed. option: which says so."""
        return cls(1009, "message too big" + (f": at most {size} bytes, see {option}" if option else ""))

    @classmethod
    def shutdown(cls) -> Self:
        return cls(3001, "shutdown")

    @classmethod
    def server_error(cls) -> Self:
        return cls(3004, "internal server error")

    @classmethod
    def expired(cls) -> Self:
        return cls(3005, "connection expired")

    @classmethod
    def subscription_expired(cls) -> Self:
        return cls(3006, "subscription expired")

    @classmethod
    def slow(cls) -> Self:
        return cls(3008, "slow")

    @classmethod
    def insufficient_state(cls) -> Self:
        return cls(3010, "insufficient state")

    @classmethod
    def force_reconnect(cls) -> Self:
        return cls(3011, "force reconnect")

    @classmethod
    def no_pong(cls) -> Self:
        return cls(3012, "no pong")

    @classmethod
    def invalid_token(cls, reason: str = "invalid token") -> Self:
        return cls(3500, reason)

    @classmethod
    def bad_request(cls, reason: str = "bad request") -> Self:
        return cls(3501, reason)

    @classmethod
    def stale(cls) -> Self:
        return cls(3502, "stale")

    @classmethod
    def force_no_reconnect(cls) -> Self:
        return cls(3503, "force disconnect")

    @classmethod
    def connection_limit(cls) -> Self:
        return cls(3504, "connection limit")

    @classmethod
    def permission_denied(cls, reason: str = "permission denied") -> Self:
        return cls(3507, reason)

    @classmethod
    def not_available(cls, reason: str = "not available") -> Self:
        return cls(3508, reason)

    @classmethod
    def too_many_errors(cls) -> Self:
        return cls(3509, "too many errors")


def closed_by_client(code: int | None) -> Disconnect:
    """RFC 6455, 7.1.5. code: of the client's Close frame; None: it had none."""
    why = Disconnect.normal()
    why.client_code = 1005 if code is None else code
    return why


class ConfigError(FreshetError):
    """A mistake in the configuration.

    path: where it is, such as `channels[0].history.size`; empty when it is the file as a whole.
    message: what is wrong, and what is allowed.
    """

    def __init__(self, path: str, message: str) -> None:
        super().__init__(f"{path}: {message}" if path else message)
        self.path = path
        self.message = message


class EngineUnavailable(FreshetError):
    """The engine could not be reached, or gave no reply in time: nobody knows whether what was asked was done.

    A publication may have reached its subscribers, or nobody. Publish it again with the same idempotency key: within
    five minutes it is published once. Without a key it may be published twice.
    """


class StoreUnavailable(FreshetError):
    """The store gave no reply: a write was not done; or, if the connection broke before the reply, nobody knows."""


class StaleOwner(FreshetError):
    """Whoever wrote does not own the room any more: another has taken it over. Nothing was written."""


class PositionConflict(FreshetError):
    """A log does not stand where the one who appends to it has read that it does. Nothing was appended."""


class NotRunning(FreshetError):
    """Freshet does not run, so that nothing was done: it runs between the beginning and the end of its `lifespan`."""

    def __init__(
        self,
        message: str = "Freshet does not run, nothing was done: pass lifespan=live.lifespan to the application around "
        "it, or call this within `async with live.lifespan():`",
    ) -> None:
        super().__init__(message)

    @classmethod
    def any_more(cls) -> Self:
        """For a call that had begun."""
        return cls("Freshet stopped before this was done: nobody knows whether it was")


class TooLargeForEngine(EngineUnavailable):
    """The engine takes nothing of that size: it was not done, and will not be another time.

    The message names the limit, and what to set. What can do without an engine for a while can do without this, too.
    """
