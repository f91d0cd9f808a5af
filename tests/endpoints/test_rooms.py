"""`/rooms/{channel}`: who may ask a room, what it is asked, and what comes back."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from httpx import ASGITransport, AsyncClient

from freshet import Freshet, HttpRequest, HttpResponse, Refusal, Room, RoomSession
from freshet.config import Config, Limits, Rooms, Tokens
from tests.tools.clients import SECRET, token


class Stock(Room):
    """What is there, and what HTTP has asked for."""

    async def on_start(self) -> None:
        self.left = await self.store.get("left", 10)

    async def on_request(self, request: HttpRequest) -> Any:
        if request.method == "GET":
            return {"left": self.left, "query": request.query, "user": request.user, "sub": request.claims.get("sub")}
        if request.method == "PUT":
            return HttpResponse(request.body, 201, {"content-type": "text/x-test", "x-own": "yes"})
        if request.method == "DELETE":
            return request.headers
        taken: int = request.json(int)
        if taken > self.left:
            raise Refusal.bad_request("not so many")
        self.left -= taken
        await self.store.put("left", self.left)
        await self.broadcast(self.left)
        return self.left


class Silent(Room):
    async def on_message(self, session: RoomSession, data: Any) -> None: ...


def application(**tokens: Any) -> Freshet:
    config = Config(
        rooms=Rooms(store="memory://"), tokens=Tokens(**{"anonymous": True, **tokens}), limits=Limits(message_size=1000)
    )
    live = Freshet(secret=SECRET, config=config)
    live.room("stock:{item}")(Stock)
    live.room("closed:{item}", subscribe="token")(Stock)
    live.room("nobody:{item}", subscribe="nobody")(Stock)
    live.room("silent:{item}")(Silent)
    live.channel("plain:{name}")
    return live


@pytest.fixture
async def live() -> AsyncIterator[Freshet]:
    live = application()
    async with live.lifespan():
        yield live


@pytest.fixture
async def http(live: Freshet) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(transport=ASGITransport(live), base_url="http://127.0.0.1") as client:
        yield client


async def test_a_request_is_a_step_of_the_room_whose_subscribers_hear_what_it_did(
    live: Freshet, http: AsyncClient
) -> None:
    async with live.test_client("a") as ann:
        await ann.subscribe("stock:lamp")
        answer = await http.post("/rooms/stock:lamp", content="3")
        assert (answer.status_code, answer.json()) == (200, 7)
        assert answer.headers["content-type"] == "application/json"
        assert (await ann.receive()).data == 7
        refused = await http.post("/rooms/stock:lamp", content="8")
        assert (refused.status_code, refused.json()["message"]) == (400, "not so many")
        assert (await http.get("/rooms/stock:lamp")).json()["left"] == 7


async def test_a_room_is_told_who_asks_and_sees_no_credentials(http: AsyncClient) -> None:
    bearer = {"authorization": f"Bearer {token('alice')}", "cookie": "a=b", "x-mine": "1"}
    told = (await http.get("/rooms/stock:lamp?size=big", headers=bearer)).json()
    assert told == {"left": 10, "query": {"size": "big"}, "user": "alice", "sub": "alice"}
    by_query = (await http.get(f"/rooms/stock:lamp?token={token('bob')}")).json()
    assert (by_query["user"], by_query["query"]) == ("bob", {})
    headers = (await http.delete("/rooms/stock:lamp", headers=bearer)).json()
    assert headers["x-mine"] == "1"
    assert not {"authorization", "cookie"} & set(headers)


async def test_an_answer_may_be_anything_with_a_status_and_headers(http: AsyncClient) -> None:
    answer = await http.put("/rooms/stock:lamp", content=b"\x00\xff")
    assert (answer.status_code, answer.content) == (201, b"\x00\xff")
    assert (answer.headers["content-type"], answer.headers["x-own"]) == ("text/x-test", "yes")


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/rooms/closed:lamp", 403),
        ("/rooms/nobody:lamp", 403),
        ("/rooms/silent:lamp", 404),
        ("/rooms/plain:lamp", 404),
        ("/rooms/no:such", 404),
        ("/rooms/", 400),
    ],
)
async def test_who_may_not_subscribe_may_not_ask_and_what_answers_nothing_says_so(
    http: AsyncClient, path: str, status: int
) -> None:
    assert (await http.get(path)).status_code == status


async def test_a_token_that_names_the_channel_opens_it(http: AsyncClient) -> None:
    caps = {"caps": [{"channels": ["closed:*"], "allow": ["subscribe"]}]}
    bearer = {"authorization": f"Bearer {token('alice', claims=caps)}"}
    assert (await http.get("/rooms/closed:lamp", headers=bearer)).status_code == 200


@pytest.mark.parametrize("body", ["", "[", '"many"'])
async def test_a_body_that_does_not_fit_is_the_clients_fault_and_one_too_large_is_refused(
    http: AsyncClient, body: str
) -> None:
    assert (await http.post("/rooms/stock:lamp", content=body)).status_code == 400
    assert (await http.post("/rooms/stock:lamp", content="1" * 1001)).status_code == 413


async def test_nobody_asks_without_a_token_where_one_is_needed() -> None:
    live = application(anonymous=False)
    transport = ASGITransport(live)
    async with live.lifespan(), AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
        assert (await http.get("/rooms/stock:lamp")).status_code == 401
        bad = await http.get("/rooms/stock:lamp", headers={"authorization": "Bearer nonsense"})
        assert bad.status_code == 401


def test_the_claims_of_an_anonymous_request_are_empty() -> None:
    assert HttpRequest().claims == {}
    with pytest.raises(Refusal):
        HttpRequest(body=b"{").json()
