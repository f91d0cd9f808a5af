"""The server API: every method by the official client `cent`, and each mistake with its reason."""

import json
import subprocess
import sys
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import cent
import httpx
import pytest
from cent import AsyncClient, CentApiResponseError, CentUnauthorizedError
from centrifuge import Client as Listening
from centrifuge import ClientState

from tests.tools.clients import CONFIG, Listener, connected, soon, token
from tests.tools.patience import eventually, seconds
from tests.tools.serving import Server, serving

KEY = "a key for tests"
APPLICATION = """
from freshet import Freshet, Refusal

live = Freshet.from_config("freshet.toml")

@live.api_rpc("double")
async def double(data: int):
    return data * 2

@live.api_rpc("refuses")
def refuses(data):
    raise Refusal(1001, f"not {data}")

@live.api_rpc("fails")
async def fails(data):
    raise RuntimeError("the reason stays here")
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("api")
    (folder / "freshet.toml").write_text(f'{CONFIG}\n[api]\nkey = "{KEY}"\nbody_size = 200000\n')
    (folder / "application.py").write_text(APPLICATION)
    with serving("application:live", cwd=folder) as server:
        yield server


@pytest.fixture
async def api(server: Server) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(server.http("/api"), KEY) as client:
        yield client


@pytest.fixture
async def alice(server: Server) -> AsyncIterator[Listening]:
    async with connected(server) as client:
        yield client


@pytest.fixture
def channel() -> str:
    return f"room-{uuid4().hex}"


def post(server: Server, method: str, body: Any = None, **headers: str) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body or {}).encode()
    headers = {"x-api-key": KEY, **{name.replace("_", "-"): value for name, value in headers.items()}}
    return httpx.post(server.http(f"/api/{method}"), content=content, headers=headers, timeout=seconds(5))


def reason(response: httpx.Response) -> tuple[int, int, str]:
    error = response.json()["error"]
    return response.status_code, error["code"], error["message"]


# --------------------------------------------------------------------------------------------------------- publications


async def test_a_publication_reaches_who_listens(api: AsyncClient, alice: Listening, channel: str) -> None:
    listener = Listener(alice, channel)
    await listener.start()
    request = cent.PublishRequest(channel=channel, data={"text": "hello"}, tags={"event": "greeting"})
    result = await api.publish(request)
    got = await soon(listener.publications.get())
    assert (got.pub.data, got.pub.offset, got.pub.tags) == ({"text": "hello"}, result.offset, {"event": "greeting"})
    assert result.epoch


async def test_the_synchronous_client_publishes_too(server: Server, alice: Listening, channel: str) -> None:
    listener = Listener(alice, channel)
    await listener.start()
    program = "import cent, sys; c = cent.Client(sys.argv[1], sys.argv[2]); "
    program += "print(c.publish(cent.PublishRequest(channel=sys.argv[3], data=[1, None, 'ü'])).offset)"
    command = [sys.executable, "-c", program, server.http("/api"), KEY, channel]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds(20), check=True)
    assert done.stdout == "1\n"
    assert (await soon(listener.publications.get())).pub.data == [1, None, "ü"]


async def test_a_broadcast_reaches_each_channel_and_names_those_that_it_cannot_reach(
    api: AsyncClient, alice: Listening, channel: str
) -> None:
    listener = Listener(alice, channel)
    await listener.start()
    request = cent.BroadcastRequest(channels=[channel, "x" * 300, f"{channel}-2"], data=1)
    replies = (await api.broadcast(request)).responses
    assert [reply.error.code if reply.error else None for reply in replies] == [None, 107, None]
    assert (await soon(listener.publications.get())).pub.data == 1


async def test_the_same_key_publishes_once(api: AsyncClient, channel: str) -> None:
    request = cent.PublishRequest(channel=channel, data=1, idempotency_key="order 7")
    assert (await api.publish(request)).offset == (await api.publish(request)).offset == 1


async def test_a_publication_may_pass_by_the_history(api: AsyncClient, alice: Listening, channel: str) -> None:
    listener = Listener(alice, channel)
    await listener.start()
    await api.publish(cent.PublishRequest(channel=channel, data="now", skip_history=True))
    assert (await soon(listener.publications.get())).pub.data == "now"
    assert (await api.history(cent.HistoryRequest(channel=channel, limit=10))).publications == []


async def test_bytes_come_as_base64(server: Server, channel: str) -> None:
    assert post(server, "publish", {"channel": channel, "b64data": "AAEC"}).status_code == 200
    page = post(server, "history", {"channel": channel, "limit": 1}).json()["result"]
    assert page["publications"][0]["b64data"] == "AAEC"


# ------------------------------------------------------------------------------------------------ what a channel holds


async def test_history_is_read_in_pages_and_removed(api: AsyncClient, channel: str) -> None:
    for number in range(5):
        await api.publish(cent.PublishRequest(channel=channel, data=number))
    page = await api.history(cent.HistoryRequest(channel=channel, limit=2))
    assert [each.data for each in page.publications] == [0, 1]
    since = cent.StreamPosition(offset=page.publications[-1].offset, epoch=page.epoch)
    page = await api.history(cent.HistoryRequest(channel=channel, limit=2, since=since))
    assert [each.data for each in page.publications] == [2, 3]
    page = await api.history(cent.HistoryRequest(channel=channel, limit=2, reverse=True))
    assert [each.data for each in page.publications] == [4, 3]
    position = await api.history(cent.HistoryRequest(channel=channel))
    assert (position.offset, position.publications) == (5, [])

    await api.history_remove(cent.HistoryRemoveRequest(channel=channel))
    page = await api.history(cent.HistoryRequest(channel=channel, limit=10))
    assert (page.publications, page.offset, page.epoch) == ([], 5, position.epoch)
    with pytest.raises(CentApiResponseError) as error:
        await api.history(cent.HistoryRequest(channel=channel, limit=10, since=since))
    assert error.value.code == 112
    assert (await api.publish(cent.PublishRequest(channel=channel, data=5))).offset == 6


async def test_presence_names_who_is_there(api: AsyncClient, alice: Listening, channel: str) -> None:
    await Listener(alice, channel).start()
    found = (await api.presence(cent.PresenceRequest(channel=channel))).presence
    assert [each.user for each in found.values()] == ["alice"]
    stats = await api.presence_stats(cent.PresenceStatsRequest(channel=channel))
    assert (stats.num_clients, stats.num_users) == (1, 1)


async def test_channels_are_those_with_subscribers(api: AsyncClient, alice: Listening, channel: str) -> None:
    await Listener(alice, channel).start()
    found = (await api.channels(cent.ChannelsRequest(pattern="room-*"))).channels
    assert found[channel].num_clients == 1
    assert channel not in (await api.channels(cent.ChannelsRequest(pattern="other-*"))).channels
    assert channel in (await api.channels(cent.ChannelsRequest())).channels


async def test_info_counts_what_the_node_holds(api: AsyncClient, alice: Listening, channel: str) -> None:
    await Listener(alice, channel).start()
    [node] = (await api.info(cent.InfoRequest())).nodes
    assert node.num_clients >= 1
    assert node.num_subs >= 1
    assert node.num_users >= 1
    assert node.num_channels >= 1


# -------------------------------------------------------------------------------------------------------------- clients


async def test_the_server_subscribes_and_unsubscribes(
    server: Server, api: AsyncClient, alice: Listening, channel: str
) -> None:
    first = await api.publish(cent.PublishRequest(channel=channel, data="before"))
    events: list[Any] = []

    async def note(context: Any) -> None:
        events.append(context)

    alice.events.on_subscribed = alice.events.on_publication = alice.events.on_unsubscribed = note
    since = cent.StreamPosition(offset=0, epoch=first.epoch)
    info, data = {"role": "guest"}, {"welcome": True}
    await api.subscribe(cent.SubscribeRequest(user="alice", channel=channel, info=info, data=data, recover_since=since))
    await eventually(lambda: events)
    assert (events[0].channel, events[0].data) == (channel, data)
    found = (await api.presence(cent.PresenceRequest(channel=channel))).presence
    assert [each.chan_info for each in found.values()] == [info]
    await api.publish(cent.PublishRequest(channel=channel, data="after"))
    await eventually(lambda: any(getattr(it, "pub", None) and it.pub.data == "after" for it in events))
    await api.unsubscribe(cent.UnsubscribeRequest(user="alice", channel=channel))
    await eventually(lambda: not post(server, "channels", {"pattern": channel}).json()["result"]["channels"])


async def test_all_that_the_official_client_can_say_of_a_subscription_counts(
    server: Server, api: AsyncClient, alice: Listening, channel: str
) -> None:
    begun: list[Any] = []

    async def note(context: Any) -> None:
        begun.append(context)

    alice.events.on_subscribed = note
    yes = cent.BoolValue(value=True)
    request = cent.SubscribeRequest(
        user="alice",
        channel=channel,
        info=1,
        b64info=b64encode(b'{"role":\n"guest"}').decode(),
        data=1,
        b64data=b64encode(rb'["\ud83d"]').decode(),
        override=cent.ChannelOptionsOverride(
            presence=yes, join_leave=yes, force_push_join_leave=yes, force_positioning=yes, force_recovery=yes
        ),
    )
    await api.subscribe(request)
    await eventually(lambda: begun)
    assert begun[0].data == ["\ud83d"]
    found = (await api.presence(cent.PresenceRequest(channel=channel))).presence
    assert [each.chan_info for each in found.values()] == [{"role": "guest"}]


@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("presence", "presence"),
        ("join_leave", "join_leave"),
        ("force_push_join_leave", "join_leave"),
        ("force_positioning", "history"),
        ("force_recovery", "history"),
    ],
)
async def test_an_option_of_a_channel_is_its_rules_for_every_subscription(
    server: Server, api: AsyncClient, channel: str, name: str, option: str
) -> None:
    for place, value in (("quiet:1", True), (channel, False)):
        override = cent.ChannelOptionsOverride(**{name: cent.BoolValue(value=value)})
        with pytest.raises(CentApiResponseError) as refused:
            await api.subscribe(cent.SubscribeRequest(user="alice", channel=place, override=override))
        assert refused.value.code == 108
        assert f"override.{name}: the option {option}" in refused.value.message
        agrees = cent.ChannelOptionsOverride(**{name: cent.BoolValue(value=not value)})
        await api.subscribe(cent.SubscribeRequest(user="alice", channel=place, override=agrees))


async def test_one_client_is_named_by_its_session(server: Server, api: AsyncClient, channel: str) -> None:
    """Which those of HTTP streams have: it is in the reply to their connect."""
    connect = {"id": 1, "connect": {"token": token("dora")}}
    async with (
        connected(server, "dora") as other,
        httpx.AsyncClient(timeout=seconds(5)) as http,
        http.stream("POST", server.http("/connection/http_stream"), json=connect) as stream,
    ):
        lines = stream.aiter_lines()
        session = json.loads(await anext(lines))["connect"]["session"]

        async def pushed(kind: str) -> Any:
            while kind not in (push := json.loads(await anext(lines)).get("push", {})):
                pass
            return push[kind]

        who = {"user": "dora", "session": session}
        await api.subscribe(cent.SubscribeRequest(channel=channel, **who))
        await pushed("subscribe")
        count = await api.presence_stats(cent.PresenceStatsRequest(channel=channel))
        assert count.num_clients == 1
        await api.unsubscribe(cent.UnsubscribeRequest(user="dora", session="of nobody", channel=channel))
        await api.unsubscribe(cent.UnsubscribeRequest(channel=channel, **who))
        await pushed("unsubscribe")
        await api.refresh(cent.RefreshRequest(expire_at=4_000_000_000, **who))
        await api.disconnect(cent.DisconnectRequest(disconnect=cent.Disconnect(), user="dora", session="of nobody"))
        await api.disconnect(cent.DisconnectRequest(disconnect=cent.Disconnect(reason="enough"), **who))
        assert await pushed("disconnect") == {"code": 3503, "reason": "enough"}
        assert other.state == ClientState.CONNECTED


async def test_a_user_is_sent_away_but_for_those_that_may_stay(server: Server, api: AsyncClient, channel: str) -> None:
    gone: list[Any] = []

    async def note(context: Any) -> None:
        gone.append(context)

    async with connected(server, "bob") as one, connected(server, "bob") as other:
        one.events.on_disconnected = other.events.on_disconnected = note
        await Listener(other, channel).start()
        [stays] = (await api.presence(cent.PresenceRequest(channel=channel))).presence
        goodbye = cent.Disconnect(code=4999, reason="enough")
        request = cent.DisconnectRequest(user="bob", whitelist=[stays], disconnect=goodbye)
        await api.disconnect(request)
        await eventually(lambda: gone)
        assert [(it.code, it.reason) for it in gone] == [(4999, "enough")]
        assert await other.get_subscription(channel).presence_stats()  # it is still there


async def test_a_users_time_can_be_over(server: Server, api: AsyncClient) -> None:
    again: list[Any] = []

    async def note(context: Any) -> None:
        again.append(context)

    async with connected(server, "carol") as client:
        client.events.on_connecting = note
        await api.refresh(cent.RefreshRequest(user="carol", expire_at=4_000_000_000))
        assert not again
        await api.refresh(cent.RefreshRequest(user="carol", expired=True))
        await eventually(lambda: again)
        assert again[0].code == 3005


# ----------------------------------------------------------------------------------------------- functions and batches


def test_functions_of_the_application_are_called(server: Server) -> None:
    assert post(server, "rpc", {"method": "double", "data": 21}).json() == {"result": {"data": 42}}
    assert reason(post(server, "rpc", {"method": "double", "data": "x"}))[:2] == (200, 107)
    status, code, message = reason(post(server, "rpc", {"method": "triple"}))
    assert (status, code) == (200, 104)
    assert "double" in message


def test_a_function_may_refuse_with_a_code_of_its_own(server: Server) -> None:
    assert reason(post(server, "rpc", {"method": "refuses"})) == (200, 1001, "not None")


def test_what_a_function_raises_stays_with_the_server(server: Server) -> None:
    answer = post(server, "rpc", {"method": "fails"})
    assert reason(answer) == (200, 100, "internal server error")
    server.wait_for_log("the reason stays here")


@pytest.mark.parametrize("parallel", [False, True])
async def test_a_batch_answers_each_request(api: AsyncClient, channel: str, parallel: bool) -> None:
    requests = [
        cent.PublishRequest(channel=channel, data=1),
        cent.PublishRequest(channel=channel, data=2),
        cent.HistoryRequest(channel=channel, limit=10),
    ]
    replies = (await api.batch(cent.BatchRequest(requests=requests, parallel=parallel))).replies
    assert [replies[0].offset, replies[1].offset] == [1, 2]
    assert [each.data for each in replies[2].publications] == [1, 2]


@pytest.mark.parametrize("parallel", [False, True])
def test_a_batch_says_which_request_failed(server: Server, channel: str, parallel: bool) -> None:
    wrong = [{"channel": "x" * 300, "data": 1}, {"channel": channel}, {"channel": channel, "b64data": "?"}]
    commands = [{"publish": it} for it in (*wrong, {"channel": channel, "data": 1})]
    replies = post(server, "batch", {"commands": commands, "parallel": parallel}).json()["replies"]
    assert [reply["error"]["code"] for reply in replies[:3]] == [107, 107, 107]
    assert replies[3]["publish"]["offset"] == 1


@pytest.mark.parametrize("command", [{}, {"batch": {"commands": []}}, {"nope": {}}, {"info": {}, "publish": {}}])
def test_a_batch_holds_methods_by_name(server: Server, command: dict[str, Any]) -> None:
    status, code, message = reason(post(server, "batch", {"commands": [{"info": {}}, command]}))
    assert (status, code) == (400, 107)
    assert "commands[1]" in message
    assert "publish" in message


# ------------------------------------------------------------------------------------------------------------- mistakes


async def test_who_has_no_key_is_not_answered(server: Server) -> None:
    async with AsyncClient(server.http("/api"), "another key") as client:
        with pytest.raises(CentUnauthorizedError):
            await client.info(cent.InfoRequest())
    assert reason(post(server, "info", x_api_key=""))[:2] == (401, 101)
    assert reason(post(server, "nope", x_api_key=""))[:2] == (401, 101)


def test_the_key_may_come_as_authorization(server: Server) -> None:
    assert post(server, "info", x_api_key="", authorization=f"apikey {KEY}").status_code == 200
    assert post(server, "info", x_api_key="", authorization=f"Bearer {KEY}").status_code == 401


def test_a_key_of_any_letters_is_known_again(serve: Any, tmp_path: Path) -> None:
    server = serve(cwd=tmp_path, env={"FRESHET_API_KEY": "schlüssel"})
    for key, status in [("schlüssel", 200), ("schlussel", 401)]:
        assert httpx.post(server.http("/api/info"), headers={b"x-api-key": key.encode()}).status_code == status


def test_no_key_is_ever_logged(server: Server) -> None:
    post(server, "info", x_api_key="a guessed key")
    assert KEY not in server.log()
    assert "a guessed key" not in server.log()


@pytest.mark.parametrize(
    ("method", "body", "status", "part"),
    [
        ("publish", b"{", 400, "not JSON"),
        ("publish", b"", 400, "channel"),
        ("publish", b"[]", 400, "Expected `object`"),
        ("publish", b'{"channel": "a", "data": "\xff"}', 400, "UTF-8"),
        ("publish", b"[" * 100_000, 400, ""),
        ("publish", {"channel": 1, "data": 1}, 400, "`$.channel`"),
        ("publish", {"channel": "a", "dat": 1}, 400, "data, b64data"),
        ("publish", {"channel": "", "data": 1}, 400, "`$.channel`"),
        ("publish", {"channel": "a"}, 200, "data: expected"),
        ("publish", {"channel": "a", "b64data": "?"}, 200, "base64"),
        ("publish", {"channel": "a", "data": "x" * 300_000}, 413, "api.body_size"),
        ("history", {"channel": "quiet:1"}, 200, "keeps no history"),
        ("presence", {"channel": "quiet:1"}, 200, "has no presence"),
        ("unknown", {}, 404, "publish"),
        ("", {}, 404, "publish"),
        ("publish/more", {}, 404, "publish"),
        ("openapi.json", {}, 404, "publish"),
        ("disconnect", {"user": "alice", "sessions": "x"}, 400, "user, client, session, whitelist"),
        ("subscribe", {"user": "alice", "channel": "a", "overrides": {}}, 400, "unknown field `overrides`"),
        ("subscribe", {"user": "alice", "channel": "a", "override": {"recover": True}}, 400, "`$.override`"),
        ("subscribe", {"user": "alice", "channel": "a", "b64info": "?"}, 200, "b64info: expected base64"),
        ("subscribe", {"user": "alice", "channel": "a", "b64data": "eyI="}, 200, "b64data: expected JSON"),
        ("subscribe", {"user": "alice", "channel": "a", "b64data": "Iv8i"}, 200, "b64data: expected JSON"),
        ("disconnect", {"user": "alice", "disconnect": {"code": 1, "reason": ""}}, 400, "3000 to 4999"),
        ("publish", b'{"channel":"\\ud83d","data":1}', 400, "half of a character"),
        ("publish", b'{"channel":"a","data":%b}' % (b"[" * 5000 + b"]" * 5000), 400, "too many levels"),
        ("publish", b'{"channel":"a","data":NaN}', 400, "not JSON"),
    ],
)
def test_a_mistake_is_named_with_what_is_allowed(
    server: Server, method: str, body: Any, status: int, part: str
) -> None:
    answered, _, message = reason(post(server, method, body))
    assert answered == status
    assert part in message


def test_a_method_is_called_with_post(server: Server) -> None:
    answer = httpx.get(server.http("/api/publish"), headers={"x-api-key": KEY})
    assert reason(answer)[0] == 405
    assert answer.headers["allow"] == "POST"


@pytest.mark.parametrize("origins", ["", 'origins = ["*"]'], ids=["none listed", "all may connect"])
def test_a_page_of_another_origin_is_not_answered(serve: Any, tmp_path: Path, origins: str) -> None:
    (tmp_path / "freshet.toml").write_text(origins)
    server = serve("--dev", cwd=tmp_path)
    foreign = ({"origin": "https://evil.example"}, {"origin": "null"}, {"sec-fetch-site": "cross-site"})
    for headers in foreign:
        answer = httpx.post(server.http("/api/info"), headers=headers, content=b"{}")
        assert reason(answer)[:2] == (403, 103)
    own = {"origin": server.http("").rstrip("/"), "sec-fetch-site": "same-origin"}
    assert httpx.post(server.http("/api/info"), headers=own, content=b"{}").status_code == 200


def test_without_a_key_the_api_is_closed_and_says_what_to_set(serve: Any, tmp_path: Path) -> None:
    server = serve(cwd=tmp_path)
    status, _, message = reason(httpx.post(server.http("/api/info"), content=b"{}"))
    assert status == 401
    assert "FRESHET_API_KEY" in message


def test_the_environment_brings_the_key(serve: Any, tmp_path: Path) -> None:
    server = serve(cwd=tmp_path, env={"FRESHET_API_KEY": KEY})
    assert post(server, "info").status_code == 200


def test_dev_needs_no_key(serve: Any) -> None:
    server = serve("--dev")
    assert httpx.post(server.http("/api/info"), content=b"{}").status_code == 200
