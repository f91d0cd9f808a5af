"""The server side of the admin page: who may look on, and what operators see and do, over several nodes."""

import json
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from freshet.ops.admin.tracing import AT_ONCE
from tests.ops.admin.conftest import KEY, RULES
from tests.ops.admin.crowd import SECRET, token
from tests.ops.admin.operator import operating
from tests.tools.patience import eventually
from tests.tools.ports import free_port
from tests.tools.serving import Server

ENV = {"FRESHET_SECRET": SECRET, "FRESHET_ADMIN_KEY": KEY, "FRESHET_API_KEY": KEY}
Serve = Callable[..., Server]


@pytest.mark.parametrize("key", ["", "a guess", KEY + "\0", 7, None, ["x"]], ids=repr)
async def test_nobody_without_the_key_sees_anything(serve: Serve, config: Path, key: object) -> None:
    server = serve("--config", str(config), env=ENV)
    with pytest.raises(ConnectionClosed) as closed:
        async with operating(server, key):  # type: ignore[arg-type]
            pass
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4501
    if key and isinstance(key, str):
        server.wait_for_log("the admin page was refused to 127.0.0.1")
    assert KEY not in server.log()


async def test_without_a_configured_key_there_is_no_page(serve: Serve) -> None:
    server = serve(env={"FRESHET_SECRET": SECRET})
    async with httpx.AsyncClient() as client:
        assert (await client.get(server.http("/admin/"))).status_code == 404
    with pytest.raises(InvalidStatus):
        async with operating(server):
            pass


async def test_a_page_of_another_site_gets_no_connection_even_if_the_application_lets_it_connect(
    serve: Serve, tmp_path: Path
) -> None:
    (tmp_path / "freshet.toml").write_text('origins = ["*"]\n' + RULES)
    server = serve("--config", str(tmp_path / "freshet.toml"), env=ENV)
    with pytest.raises(InvalidStatus) as refused:
        async with operating(server, KEY, origin="https://evil.example"):
            pass
    assert refused.value.response.status_code == 403


async def test_in_development_the_page_needs_no_key_from_this_machine_alone(serve: Serve) -> None:
    server = serve("--dev")
    async with operating(server) as operator:
        assert (await operator.call("clients", text=""))["clients"] == []
    with pytest.raises(ConnectionClosed) as closed:
        async with operating(server, **{"X-Forwarded-For": "203.0.113.7"}):
            pass
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4502
    server.wait_for_log("set FRESHET_ADMIN_KEY or [admin] key")


async def test_what_the_configuration_does_not_allow_is_refused(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "freshet.toml").write_text(RULES.replace('allow = ["disconnect", "publish"]', ""))
    server = serve("--config", str(tmp_path / "freshet.toml"), env=ENV)
    async with operating(server, KEY) as operator:
        for method, data in (
            ("publish", {"channel": "everybody", "data": 1}),
            ("disconnect", {"client": "", "node": ""}),
        ):
            refused = await operator.call(method, **data)
            assert refused["code"] == 103
            assert "admin.allow" in refused["message"]
        reply = await operator.ask("publish", {"channel": "overview", "data": {}})
        assert reply["error"]["code"] == 103  # nor may a page publish in what others are shown


async def test_a_channel_is_shown_with_its_rule_its_log_and_who_is_there(busy: Server) -> None:
    async with operating(busy, KEY) as operator:
        await operator.ask("subscribe", {"channel": "tail:channel:room:3"})
        done = await operator.call("publish", channel="room:3", data={"n": 1})
        item = await operator.item(kind="publication", channel="room:3", offset=done["offset"])
        assert json.loads(item["data"]) == {"n": 1}
        shown = await operator.call("channel", channel="room:3")
        assert shown["rule"]["match"] == "room:{room}"
        assert shown["history"]["publications"][0]["offset"] == done["offset"]
        assert shown["presence"]["total"] == shown["presence"]["users"] == 25
        assert (await operator.call("channel", channel="everybody"))["presence"] is None
        assert (await operator.call("channel", channel="no rule"))["code"] == 102
        found = await operator.call("channels", text="ROOM:3")
        assert ["room:3", 25] in found["channels"]  # whoever looks on is not counted


async def test_clients_of_all_nodes_are_found_by_a_part_of_their_user(busy: Server) -> None:
    async with operating(busy, KEY) as operator:
        found = (await operator.call("clients", text="USER-09"))["clients"]
        assert len(found) == 100
        assert len({it["node"] for it in found}) == 2
        alice = (await operator.call("clients", text="alice", exact=True))["clients"]
        assert len(alice) == 2
        shown = await operator.call("client", text=alice[0]["id"])
        assert shown["user"] == "alice"
        assert shown["transport"] == "websocket"
        assert "everybody" in shown["channels"]


async def test_what_is_measured_is_of_all_nodes(busy: Server) -> None:
    async with operating(busy, KEY) as operator:
        await operator.ask("subscribe", {"channel": "overview"})

        async def all_clients() -> bool:
            page = await operator.ask("history", {"channel": "overview", "limit": 1, "reverse": True})
            samples = [each["data"] for each in page["publications"]]
            return sum(node["clients"] for sample in samples for node in sample["nodes"]) >= 999

        await eventually(all_clients, 10)


async def test_a_client_on_any_node_is_disconnected_and_stays_away(serve: Serve, config: Path) -> None:
    server = serve("--config", str(config), "--workers", "2", env=ENV)
    async with operating(server, KEY) as operator:
        for _ in range(4):
            async with connect(server.ws("/connection/websocket")) as client:
                await client.send(json.dumps({"id": 1, "connect": {"token": token("bob")}}))
                id = json.loads(await client.recv())["connect"]["client"]
                found = await operator.call("client", text=id)
                assert await operator.call("disconnect", client=id, node=found["node"]) == {"found": True}
                with pytest.raises(ConnectionClosed) as closed:
                    await client.recv()
                assert closed.value.rcvd is not None
                assert closed.value.rcvd.code == 3503
        assert (await operator.call("disconnect", client="x", node="nowhere"))["code"] == 108
    server.wait_for_log("an operator disconnected the client")


async def test_a_user_is_traced_on_all_nodes_and_no_secret_is_shown(serve: Serve, config: Path) -> None:
    server = serve("--config", str(config), "--workers", "2", env=ENV)
    async with operating(server, KEY) as operator:
        await operator.ask("subscribe", {"channel": "tail:user:carol"})

        async def is_traced_on_both() -> bool:
            """The other node is asked a moment later, and what happens there before that is not seen."""
            async with connect(server.ws("/connection/websocket")) as client:
                await client.send(json.dumps({"id": 1, "connect": {"token": token("carol")}}))
                await client.recv()
            await operator.call("client", text="nobody")
            return len({item["node"] for item in operator.items}) == 2

        await eventually(is_traced_on_both, 10)
        for _ in range(4):
            async with connect(server.ws("/connection/websocket")) as client:

                async def ask(method: str, request: object, client: object = client) -> None:
                    await client.send(json.dumps({"id": 1, method: request}))  # type: ignore[attr-defined]
                    await client.recv()  # type: ignore[attr-defined]

                await ask("connect", {"token": token("carol"), "data": {"password": "secret"}})
                seen = await operator.item(kind="command", command="Connect")
                assert "secret" not in json.dumps(seen)
                await ask("subscribe", {"channel": "room:carol"})
                await operator.item(kind="command", command="Subscribe", channel="room:carol")
                await ask("publish", {"channel": "room:carol", "data": {"hello": 1}})
                await operator.item(kind="publication", channel="room:carol")
                await ask("subscribe", {"channel": "closed"})
                refused = await operator.item(kind="command", channel="closed")
                assert "(103)" in refused["refused"]
            await operator.item(kind="end", user="carol")


async def test_more_than_can_be_read_is_left_out_and_counted(serve: Serve, config: Path) -> None:
    server = serve("--config", str(config), env=ENV)
    async with operating(server, KEY) as operator:
        await operator.ask("subscribe", {"channel": "tail:channel:everybody"})
        commands = [{"publish": {"channel": "everybody", "data": n}} for n in range(2000)]
        request = {"commands": commands, "parallel": True}
        async with httpx.AsyncClient(headers={"X-API-Key": KEY}) as api:
            assert len((await api.post(server.http("/api/batch"), json=request)).json()["replies"]) == 2000
        left_out = shown = 0
        while left_out + shown < 2000:
            for line in str(await operator.socket.recv()).split("\n"):
                data = json.loads(line).get("push", {}).get("pub", {}).get("data", {})
                assert len(data.get("items", [])) <= AT_ONCE
                shown, left_out = shown + len(data.get("items", [])), left_out + data.get("left_out", 0)
        assert left_out > 0


async def test_with_a_port_for_operators_the_page_is_there_and_nowhere_else(serve: Serve, tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "freshet.toml").write_text(f"{RULES}\n[internal]\nport = {port}\n")
    server = serve("--config", str(tmp_path / "freshet.toml"), env=ENV)
    inside = f"ws://127.0.0.1:{port}/admin/connection/websocket"
    async with httpx.AsyncClient() as client:
        assert (await client.get(f"http://127.0.0.1:{port}/admin/")).status_code == 200
        assert (await client.get(server.http("/admin/"))).status_code == 404
    async with connect(inside) as socket:
        await socket.send(json.dumps({"id": 1, "connect": {"data": {"key": KEY}}}))
        assert json.loads(await socket.recv())["connect"]["data"]["allow"] == ["disconnect", "publish"]
    with pytest.raises(InvalidStatus):
        async with operating(server, KEY):
            pass
