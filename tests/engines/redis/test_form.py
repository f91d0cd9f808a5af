"""What the Redis engine leaves in Redis and for how long, how it gets there, and what its URL may say."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from freshet.engines.redis.access import parse
from freshet.engines.redis.engine import RedisEngine
from freshet.errors import ConfigError
from freshet.model.log import History, PublishOptions
from tests.contracts.engine import ALICE, KEEP, LOGGED
from tests.engines.redis.node import node_at
from tests.tools.certificates import certify
from tests.tools.patience import eventually, seconds
from tests.tools.redis import Redis, redis
from tests.tools.serving import HOST, free_port


async def test_everything_expires_and_an_epoch_at_least_an_hour_after_the_publications(server: Redis) -> None:
    async with node_at(server.url) as (engine, _):
        await engine.publish("a", b"1", PublishOptions(history=KEEP, idempotency_key="k"))
        await engine.set_presence("a", "a1", ALICE)
        times = {key: int(server.cli("PTTL", key)) / 1000 for key in server.cli("KEYS", "*").split()}
        assert {key: round(time, -1) for key, time in times.items()} == {
            "freshet:{a}:log": 60,
            "freshet:{a}:meta": 3960,
            "freshet:{a}:once:k": 300,
            "freshet:{a}:here": 180,
            "freshet:{a}:until": 180,
        }


async def test_when_the_publications_have_expired_the_offsets_go_on(server: Redis) -> None:
    short = PublishOptions(history=History(size=5, ttl=0.05))
    async with node_at(server.url) as (engine, _):
        first = await engine.publish("a", b"1", short)
        await eventually(lambda: server.cli("EXISTS", "freshet:{a}:log") == "0", 5, "the expiry")
        stream = await engine.history("a", KEEP, first)
        assert (stream.publications, stream.position) == ([], first)
        assert await engine.publish("a", b"2", LOGGED) == (first.epoch, 2)


async def test_a_log_whose_epoch_was_thrown_out_begins_anew(server: Redis) -> None:
    async with node_at(server.url) as (engine, _):
        first = await engine.publish("a", b"1", LOGGED)
        server.cli("DEL", "freshet:{a}:meta")
        again = await engine.publish("a", b"2", LOGGED)
        assert again.offset == 1
        assert again.epoch != first.epoch
        assert [it.data for it in (await engine.history("a", KEEP)).publications] == [b"2"]


async def test_what_is_published_in_one_turn_reaches_redis_at_once(server: Redis) -> None:
    def reads() -> int:
        facts = dict(line.split(":", 1) for line in server.cli("INFO", "stats").splitlines() if ":" in line)
        return int(facts["total_reads_processed"])

    async with node_at(server.url) as (engine, _):
        before = reads()
        await asyncio.gather(*(engine.publish(f"channel-{index}", b"1", LOGGED) for index in range(500)))
        assert reads() - before < 50


async def test_a_publication_without_log_and_key_leaves_nothing_behind(server: Redis) -> None:
    async with node_at(server.url) as (engine, _):
        await engine.publish("a", b"1", PublishOptions())
        assert server.cli("DBSIZE") == "0"


async def test_two_prefixes_on_one_server_do_not_see_each_other(server: Redis) -> None:
    async with (
        node_at(f"{server.url}?prefix=one") as (one, _),
        node_at(f"{server.url}?prefix=two") as (two, told),
    ):
        await two.subscribe("a", KEEP)
        await one.publish("a", b"1", LOGGED)
        await one.tell(None, b"hello")
        assert (await two.history("a", KEEP)).position.offset == 0
        assert (list(told), told.control) == ([], [])


async def test_two_databases_of_one_server_do_not_see_each_other(server: Redis) -> None:
    """Databases have keys of their own; topics are the same in all of them."""
    async with node_at(f"{server.url}/0") as (one, _), node_at(f"{server.url}/1") as (two, told):
        await two.subscribe("a", KEEP)
        await one.publish("a", b"1", LOGGED)
        await one.publish("a", b"2", PublishOptions())
        await one.set_presence("a", ALICE.client, ALICE)
        await one.tell(None, b"hello")
        last = await two.publish("a", b"own", LOGGED)
        assert last.offset == 1
        await told.count(1)
        assert told.control == []


async def test_a_node_subscribes_only_to_what_it_listens_to(server: Redis) -> None:
    async with node_at(server.url) as (engine, _):
        await engine.publish("a", b"1", LOGGED)
        await engine.subscribe("b", KEEP)
        await engine.subscribe("c", KEEP)
        await engine.unsubscribe("c")
        wanted = ["freshet:{b}:flow", "freshet:{node:node}", "freshet:{nodes}"]
        await eventually(lambda: sorted(server.cli("PUBSUB", "CHANNELS").split()) == wanted, 5, "its topics")
    await eventually(lambda: server.cli("PUBSUB", "CHANNELS") == "", 5, "the end of its lines")


async def test_over_tls_the_certificate_is_checked(tmp_path: Path) -> None:
    certificate, key = certify(tmp_path)
    port = free_port()
    options = ("--tls-port", str(port), "--tls-auth-clients", "no", "--tls-cert-file", str(certificate))
    with redis(*options, "--tls-key-file", str(key), "--tls-ca-cert-file", str(certificate)):
        async with node_at(f"rediss://{HOST}:{port}?ssl_ca_certs={certificate}") as (engine, delivered):
            await engine.subscribe("a", KEEP)
            await engine.publish("a", b"1", LOGGED)
            await delivered.count(1)
        with pytest.raises(Exception, match="certificate verify failed"):
            async with node_at(f"rediss://{HOST}:{port}"):
                pass


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("redis://host:port", "not the URL of a Redis"),
        ("redis://host:99999", "not the URL of a Redis"),
        ("redis://host/zero", "not the URL of a Redis"),
        ("redis://[::1", "not the URL of a Redis"),
        ("redis+sentinel://host", "not the URL of a Redis"),
        ("redis://host?timeout=soon", "not the URL of a Redis"),
        ("redis://host?timeout=0", "a timeout in seconds"),
        ("redis://host?timeout=nan", "a timeout in seconds"),
        ("redis://one,two", "expected one host"),
        ("redis://ha#sh@one", "written %23 %2F %3F"),
        ("redis+cluster://host/1", "a database's number"),
        ("redis://host?db=3", "no option 'db'; there are prefix, timeout"),
        ("rediss://host?ssl_ca_certs=/nowhere/ca.pem", "certificates for Redis cannot be read"),
    ],
)
def test_an_url_that_cannot_be_is_explained_without_its_secrets(url: str, told: str) -> None:
    url = url.replace("://", "://user:hidden-password@")
    with pytest.raises(ConfigError, match=told) as error:
        RedisEngine(url)
    assert "hidden" not in str(error.value)


def test_an_url_says_where_redis_is_and_its_secrets_are_in_no_log() -> None:
    where = parse("rediss+sentinel://me:hid%2Fden@one,[::1]:7000/live/2?prefix=p&sentinel_password=hidden&timeout=2.5")
    assert [str(address) for address in where.addresses] == ["one:26379", "[::1]:7000"]
    assert (where.service, where.prefix) == ("live", "p")
    assert where.access[:3] == ("me", "hid/den", 2)
    assert where.access.timeout == where.sentinel.timeout == 2.5
    assert where.access.tls is not None
    assert "hid" not in repr(where)


@pytest.mark.parametrize("package", ["redis", "hiredis"])
def test_without_the_package_the_error_names_the_extra(package: str) -> None:
    program = (
        f"import sys; sys.modules[{package!r}] = None\n"
        "import freshet\n"
        "from freshet.engines.redis.engine import RedisEngine\n"
        "try: RedisEngine('redis://')\n"
        "except freshet.ConfigError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=seconds(60)
    )
    assert "pip install redis hiredis" in done.stdout
