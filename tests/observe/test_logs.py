"""Log lines at a bounded rate."""

import logging

import pytest

from freshet.observe.logs import BoundedLog, LogFormat, formatter, printable

log = logging.getLogger("freshet.test")


class Time:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def test_a_kind_is_written_once_per_interval_and_the_next_line_says_how_many_were_left_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    time = Time()
    bounded = BoundedLog(log, 10, time)
    for client in range(1000):
        bounded.warning("large", "client %d sent too much", client)
    assert lines(caplog) == ["client 0 sent too much"]
    time.now += 10
    bounded.warning("large", "client %d sent too much", 7)
    time.now += 10
    bounded.warning("large", "client %d sent too much", 8)
    assert lines(caplog)[1:] == [
        "client 7 sent too much (and 999 more like it before)",
        "client 8 sent too much",
    ]


def test_one_kind_does_not_silence_another(caplog: pytest.LogCaptureFixture) -> None:
    bounded = BoundedLog(log, 10, Time())
    bounded.warning("large", "too large")
    bounded.warning("token", "bad token")
    bounded.warning("token", "bad token")
    assert lines(caplog) == ["too large", "bad token"]


def test_what_is_only_worth_knowing_is_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    bounded = BoundedLog(log, 10, Time())
    bounded.info("hook", "refused by the application")
    bounded.info("hook", "refused by the application")
    assert [(it.levelno, it.getMessage()) for it in caplog.records] == [(logging.INFO, "refused by the application")]


@pytest.mark.parametrize("text", ["a\nb", "\x1b[31m", "\u202e", "\ud800"], ids=ascii)
def test_what_a_client_wrote_is_on_one_line_that_any_file_takes(text: str) -> None:
    assert printable(text).isprintable()
    assert printable(text).encode()
    assert printable("grüß") == "grüß"


@pytest.mark.parametrize("form", ["console", "json"])
def test_nobody_makes_a_line_of_the_log_or_steers_a_terminal_by_what_is_logged_of_him(form: LogFormat) -> None:
    forged = "evil\n2026-11-27 07:43:33,378 INFO freshet: all is well\x1b[2J\r"
    record = logging.LogRecord("freshet.metrics", logging.WARNING, "", 1, "a request from %s", (forged,), None)
    line = formatter(form).format(record)
    assert len(line.splitlines()) == 1
    assert "all is well" in line
    assert "\x1b" not in line


def test_an_application_may_write_several_lines() -> None:
    record = logging.LogRecord("shop", logging.INFO, "", 1, "one\ntwo", None, None)
    assert formatter("console").format(record).endswith("one\ntwo")
