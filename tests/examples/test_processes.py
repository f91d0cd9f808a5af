"""The examples that publish from a process of their own, beside a server with clients."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from freshet.policy.tokens import issue
from tests.tools.clients import Listener, connected
from tests.tools.patience import seconds, wait_until
from tests.tools.serving import Server

SECRET = "change-me-to-32-random-characters"
KEY = "change-me-too"
KEYS = {"FRESHET_SECRET": SECRET, "FRESHET_API_KEY": KEY}


@pytest.fixture
def environment() -> dict[str, str]:
    return {**os.environ, **KEYS}


async def listener(client: Any, channel: str) -> Listener:
    made = Listener(client, channel)
    await made.start()
    return made


async def test_the_script_publishes_with_the_standard_library_alone(
    serve: Callable[..., Server], example: Callable[[str], Path], environment: dict[str, str]
) -> None:
    folder = example("script")
    server = serve("--config", "freshet.toml", cwd=folder, env=KEYS)
    async with connected(server, token=issue(SECRET, "alice")) as client:
        disk = await listener(client, "disk")
        run = [sys.executable, "publish.py"]
        there = {**environment, "FRESHET_URL": server.http("").rstrip("/")}
        done = subprocess.run(run, cwd=folder, env=there, capture_output=True, text=True, check=True)
        assert done.stdout == "published with offset 1\n"
        (item,) = await disk.data(1)
        assert 0 < item["used"] <= 1


async def test_the_script_says_why_it_could_not_publish(
    serve: Callable[..., Server], example: Callable[[str], Path], environment: dict[str, str]
) -> None:
    folder = example("script")
    server = serve("--config", "freshet.toml", cwd=folder, env=KEYS)
    there = {**environment, "FRESHET_URL": server.http("").rstrip("/"), "FRESHET_API_KEY": "another"}
    run = [sys.executable, "publish.py"]
    done = subprocess.run(run, cwd=folder, env=there, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "not published: the key in X-API-Key is not this server's\n")


@contextmanager
def celery_worker(folder: Path, environment: dict[str, str]) -> Iterator[None]:
    log = folder / "worker.log"
    command = [sys.executable, "-m", "celery", "--app", "tasks", "worker", "--pool", "solo", "--loglevel", "info"]
    with log.open("wb") as stream:
        worker = subprocess.Popen(command, cwd=folder, env=environment, stdout=stream, stderr=subprocess.STDOUT)
    try:
        wait_until(lambda: "ready." in log.read_text() or worker.poll() is not None, 20, "the worker")
        assert worker.poll() is None, log.read_text()
        yield
    finally:
        worker.terminate()
        try:
            worker.wait(seconds(10))
        except subprocess.TimeoutExpired:
            worker.kill()
            worker.wait()


async def test_the_celery_worker_says_how_far_it_is(
    serve: Callable[..., Server], example: Callable[[str], Path], environment: dict[str, str]
) -> None:
    folder = example("celery_worker")
    server = serve("--config", "freshet.toml", cwd=folder, env=KEYS)
    there = {**environment, "FRESHET_URL": server.http("").rstrip("/")}
    async with connected(server, token=issue(SECRET, "alice")) as client:
        progress = await listener(client, "report:7")
        with celery_worker(folder, there):
            order = [sys.executable, "-c", "from tasks import report; report.delay(7)"]
            subprocess.run(order, cwd=folder, env=there, check=True)
            got = await progress.data(4)
    assert [item["step"] for item in got] == ["collect", "count", "draw", "done"]
    assert [item["done"] for item in got] == [1, 2, 3, 4]
