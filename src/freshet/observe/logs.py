"""Log lines: those that a client can cause as often as it likes at a bounded rate, and all in one of two forms."""

import json
import logging
import time
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Literal

LogFormat = Literal["console", "json"]

TRACE: ContextVar[str] = ContextVar("freshet_trace", default="")
"""The W3C `traceparent` of what runs now; empty: nobody traces it."""

INTERVAL = 10.0  # seconds between two lines of one kind


def printable(text: str) -> str:
    """On one line, whatever a client wrote: characters that steer a terminal, or that no file takes, are escaped."""
    return text if text.isprintable() else text.encode("unicode_escape").decode()


class BoundedLog:
    """Warnings, and what is only worth knowing, at a bounded rate.

    A kind is what the code calls it, never what a client sent: there are as many as there are calls.
    """

    def __init__(
        self, log: logging.Logger, interval: float = INTERVAL, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._log = log
        self._interval = interval
        self._now = now
        self._next: dict[str, float] = {}
        self._left_out: dict[str, int] = {}

    def warning(self, kind: str, message: str, *arguments: object) -> None:
        """Write the line, unless one of its kind was written less than an interval ago."""
        self._write(logging.WARNING, kind, message, arguments)

    def info(self, kind: str, message: str, *arguments: object) -> None:
        """As `warning`, for what is as the application wants it."""
        self._write(logging.INFO, kind, message, arguments)

    def _write(self, level: int, kind: str, message: str, arguments: tuple[object, ...]) -> None:
        now = self._now()
        if now < self._next.get(kind, 0.0):
            self._left_out[kind] = self._left_out.get(kind, 0) + 1
            return
        self._next[kind] = now + self._interval
        if left_out := self._left_out.pop(kind, 0):
            message, arguments = f"{message} (and %d more like it before)", (*arguments, left_out)
        self._log.log(level, message, *arguments)


class JsonFormatter(logging.Formatter):
    """A line of JSON: time, level, logger, message; client and user, if it is about one; trace_id and span_id."""

    def format(self, record: logging.LogRecord) -> str:
        fields = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        arguments = record.args.values() if isinstance(record.args, Mapping) else record.args or ()
        for each in arguments:
            fields |= getattr(each, "log_fields", {})
        if trace := TRACE.get():
            _, fields["trace_id"], fields["span_id"], _ = trace.split("-")
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps(fields, ensure_ascii=False)


class LineFormatter(logging.Formatter):
    """A line of text. One of ours stays one, whatever a client has put into it; what applications write is theirs."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name is that of the base
        if record.name.partition(".")[0] == "freshet":
            record.message = printable(record.message)
        return super().formatMessage(record)


def formatter(form: LogFormat) -> logging.Formatter:
    if form == "json":
        return JsonFormatter()
    return LineFormatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
