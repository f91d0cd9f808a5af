"""Workers that another server forks never make two worlds of one engine in memory, silently."""

import os
from pathlib import Path

import httpx
import pytest

from freshet.errors import ConfigError
from freshet.runtime import siblings
from tests.tools.patience import seconds, wait_until
from tests.tools.redis import redis
from tests.transports.shells import shell

SAID = "another worker of this server has it"
APP = "tests.runtime.alone:live"


@pytest.mark.parametrize("host", ["uvicorn", "gunicorn", "hypercorn", "granian"])
def test_a_second_worker_does_not_start_and_says_why(host: str, tmp_path: Path) -> None:
    with shell(host, APP, tmp_path, "--workers", "2") as server:
        server.wait_for_log(SAID, 30)
        server.wait_for_log("serve MODULE:APP --workers N")


def test_the_first_worker_serves_all_clients_alone(tmp_path: Path) -> None:
    with shell("uvicorn, two workers", APP, tmp_path) as server, httpx.Client(timeout=seconds(10)) as http:
        for number in range(1, 21):
            with httpx.Client(timeout=seconds(10)) as fresh:  # a connection of its own, which any worker could take
                answer = fresh.post(server.http("/api/publish"), json={"channel": "a", "data": number})
                assert answer.json()["result"]["offset"] == number
        assert len(http.get(server.http("/channels/a?since=oldest")).json()["publications"]) == 20


def test_workers_that_share_an_engine_all_start(tmp_path: Path) -> None:
    with redis() as broker, shell("uvicorn, two workers", APP, tmp_path, env={"TEST_ENGINE": broker.url}) as server:
        wait_until(lambda: server.log().count("Application startup complete") == 2, 30, "both workers")
        assert SAID not in server.log()


async def test_a_worker_waits_for_the_end_of_the_one_before(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As in a reload; and who is nobody's worker asks nobody."""
    await siblings.be_the_only_one()
    monkeypatch.setattr(siblings, "lock_path", lambda: tmp_path / "lock")
    monkeypatch.setattr(siblings, "PATIENCE", 0.3)
    monkeypatch.setattr(siblings, "_held", [])
    await siblings.be_the_only_one()
    await siblings.be_the_only_one()  # a second application in the same process
    held = siblings._held
    monkeypatch.setattr(siblings, "_held", [])
    with pytest.raises(ConfigError, match=SAID):
        await siblings.be_the_only_one()
    os.close(held.pop())
    await siblings.be_the_only_one()
    os.close(siblings._held.pop())
