"""The tests' own tools say what is wrong instead of passing."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest
from selenium import webdriver

from tests.tools import need, serving
from tests.tools.browser import console_errors
from tests.tools.parallel import APART, BROWSER, LONG, longest_first, unit_of, workers
from tests.tools.patience import eventually, wait_until


def test_a_missing_tool_skips_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="needs no-such-tool"):
        need.require("no-such-tool")


def test_a_missing_tool_fails_where_all_must_be_tested(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="needs no-such-tool"):
        need.require("no-such-tool")


def test_a_tool_that_nobody_has_to_have_never_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    monkeypatch.setattr(need, "find", lambda tool: None)
    with pytest.raises(pytest.skip.Exception, match=r"needs python2\.7"):
        need.require("python2.7")


def test_a_tool_that_does_not_start_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shim = tmp_path / "shim"
    shim.write_text("#!/bin/sh\nexit 127\n")
    shim.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert need.find("shim") is None


async def test_waiting_ends_with_what_came_or_with_what_did_not() -> None:
    ready = asyncio.Event()
    asyncio.get_running_loop().call_later(0.02, ready.set)
    assert await eventually(ready.is_set) is True
    with pytest.raises(TimeoutError, match="for the moon"):
        await eventually(lambda: False, within=0.02, what="the moon")
    with pytest.raises(TimeoutError, match="for the moon"):
        wait_until(lambda: False, within=0.02, what="the moon")


def test_a_server_that_does_not_start_is_reported_with_its_output(tmp_path: Path) -> None:
    (tmp_path / "freshet.py").write_text("import sys; sys.exit('no such option: ' + sys.argv[2])")
    complaint = r"ended with 1 .*\n.*no such option: --odd"
    with pytest.raises(RuntimeError, match=complaint), serving.serving("--odd", cwd=tmp_path):
        pass


def listening(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on_sigterm: str) -> None:
    """Put a program that listens in the place of `freshet`, and scale the grace down."""
    program = tmp_path / "freshet.py"
    program.write_text(
        "import signal, socket, sys, time\n"
        f"signal.signal(signal.SIGTERM, {on_sigterm})\n"
        "listener = socket.create_server((sys.argv[-3], int(sys.argv[-1])))\n"
        "print('arguments', *sys.argv[1:-4])\n"
        "while True: time.sleep(60)\n"
    )
    monkeypatch.setattr(serving, "GRACE", 0.2)


def test_a_server_ends_with_its_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listening(tmp_path, monkeypatch, "signal.SIG_DFL")
    with serving.serving("--one", "two", cwd=tmp_path) as server:
        assert server.process.args[0] == sys.executable
        assert server.ws("/x") == f"ws://127.0.0.1:{server.port}/x"
        server.wait_for_log("arguments serve --one two")
    assert server.process.returncode == -signal.SIGTERM


def test_a_server_that_ignores_the_request_to_end_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listening(tmp_path, monkeypatch, "signal.SIG_IGN")
    with serving.serving(cwd=tmp_path) as server:
        pass
    assert server.process.returncode == -signal.SIGKILL


def test_the_browser_runs_a_page_and_gives_its_errors(browser: webdriver.Chrome, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text("<title>before</title><script>document.title = 'after'; console.error('broken')</script>")
    browser.get(page.as_uri())
    assert browser.title == "after"
    assert ["broken" in error for error in console_errors(browser)] == [True]
    assert console_errors(browser) == []


def test_the_npm_clients_are_there(node: Path) -> None:
    assert (node / "node_modules" / "centrifuge").is_dir()


def test_the_tests_of_a_file_stay_on_one_worker_and_those_that_share_nothing_do_not() -> None:
    assert unit_of("tests/api/test_http.py::test_a") == unit_of("tests/api/test_http.py::test_b[x::y]")
    assert unit_of("tests/chaos/test_short.py::test_a[x]") != unit_of("tests/chaos/test_short.py::test_a[y]")
    assert unit_of("tests/demos/test_chat.py::test_a") == unit_of("tests/docs/test_site.py::test_b")
    assert all((need.ROOT / file).is_file() for file in APART)
    assert all((need.ROOT / each).exists() for each in BROWSER)


def test_there_are_more_workers_than_cores_because_tests_wait() -> None:
    assert [workers(cores) for cores in (1, 2, 4, 16)] == [2, 5, 10, 40]


def test_files_that_take_long_begin_first_and_of_the_others_those_with_many_tests() -> None:
    tests = ["tests/a.py::1", "tests/b.py::1", "tests/b.py::2", f"{LONG[1]}::1", f"{LONG[0]}::1", "tests/demos/a.py::1"]
    place = longest_first(tests)
    files = [test.partition("::")[0] for test in sorted(tests, key=lambda test: place[test])]
    assert files == ["tests/demos/a.py", LONG[0], LONG[1], "tests/b.py", "tests/b.py", "tests/a.py"]
    assert all((Path(__file__).parents[2] / file).exists() for file in LONG)
