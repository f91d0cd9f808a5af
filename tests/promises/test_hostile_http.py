"""What is tried on WebSockets, on streams, event streams and polls, too: before their client is known, and after."""

import gzip
import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from tests.promises.test_hostile import still_serves
from tests.tools.clients import CONFIG, soon, token
from tests.tools.memory import MIB, grows_by_less_than
from tests.tools.patience import eventually, seconds
from tests.tools.serving import UNLIMITED, Server, serving

POLLS = "/socket.io/?EIO=4&transport=polling"

known = pytest.mark.parametrize("known", [False, True], ids=["before", "after"])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    config = tmp_path_factory.mktemp("hostile") / "freshet.toml"
    limits = f"\n[limits]\nconnects_per_second = 0\n[timing]\nconnect_timeout = {seconds(1)}\nexpiry_grace = 1\n"
    limits += "[api]\nanonymous = true\n"
    config.write_text(CONFIG + limits + UNLIMITED)
    with serving("--config", str(config)) as server:
        yield server


class Way:
    """One client. ended: the server has ended its session, or what it said opened none. statuses: of what it asked."""

    def __init__(self, server: Server, http: httpx.AsyncClient) -> None:
        self._server = server
        self._http = http
        self.statuses: list[int] = []
        self.heard = b""
        self.claims: dict[str, Any] = {}  # of its token

    async def begin(self, *, known: bool) -> None:
        """known: it says who it is."""

    async def say(self, data: bytes) -> None:
        raise NotImplementedError

    async def ended(self) -> bool:
        raise NotImplementedError

    async def close(self) -> None:
        """It is done."""

    async def post(self, path: str, data: bytes, **headers: str) -> httpx.Response | None:
        try:
            answer = await self._http.post(self._server.http(path), content=data, headers=headers)
        except httpx.TransportError:  # cut while it sent
            self.statuses.append(0)
            return None
        self.statuses.append(answer.status_code)
        return answer


class Stream(Way):
    """A session over a response that does not end, and requests. Before it is known, what it says opens it."""

    events = False
    response: httpx.Response | None = None

    async def begin(self, *, known: bool) -> None:
        if known:
            await self._open(json.dumps({"id": 1, "connect": {"token": token(**self.claims)}}).encode())
            line = b""
            while b"connect" not in line:
                line = await soon(anext(self._lines))
            self._place = json.loads(line.removeprefix(b"data: "))["connect"]

    async def _open(self, data: bytes) -> None:
        if self.events:
            url = self._server.http(f"/connection/sse?cf_connect={quote(data)}")
            request = self._http.build_request("GET", url)
        else:
            request = self._http.build_request("POST", self._server.http("/connection/http_stream"), content=data)
        with suppress(httpx.TransportError):
            self.response = await self._http.send(request, stream=True)
            self._lines = self._read(self.response)

    async def _read(self, response: httpx.Response) -> Any:
        async for line in response.aiter_lines():
            if line and line != ":":
                yield line.encode()

    async def say(self, data: bytes) -> None:
        if self.response is None:
            await self._open(data)
            self.statuses.append(self.response.status_code if self.response is not None else 0)
            return
        said = {"session": self._place["session"], "node": self._place["node"], "data": data.decode("latin-1")}
        await self.post("/emulation", json.dumps(said).encode())

    async def ended(self) -> bool:
        if self.response is None or self.response.status_code >= 400:
            return True
        try:
            while True:
                self.heard += await soon(anext(self._lines)) + b"\n"
        except (StopAsyncIteration, httpx.TransportError):
            return True

    async def close(self) -> None:
        if self.response is not None:
            await self.response.aclose()


class Events(Stream):
    events = True


class Polls(Way):
    async def begin(self, *, known: bool) -> None:
        opening = await self._http.get(self._server.http(POLLS))
        self._path = f"{POLLS}&sid={json.loads(opening.text[1:])['sid']}"
        if known:
            await self.post(self._path, f'40{{"token":"{token(**self.claims)}"}}'.encode())
            assert (await self._http.get(self._server.http(self._path))).text.startswith("40")

    async def say(self, data: bytes) -> None:
        await self.post(self._path, data)

    async def ended(self) -> bool:
        async def gone() -> bool:
            answer = await self._http.get(self._server.http(self._path))
            return answer.status_code == 400 or answer.text.startswith(("41", "44"))  # a namespace's end, or none

        await eventually(gone, 10, "the end of the session")
        return True


WAYS = {"stream": Stream, "events": Events, "polls": Polls}
way = pytest.mark.parametrize("name", WAYS)


async def tried(server: Server, name: str, data: bytes, *, known: bool) -> Way:
    async with httpx.AsyncClient(timeout=seconds(10)) as http:
        it = WAYS[name](server, http)
        await it.begin(known=known)
        try:
            await it.say(data)
            assert await it.ended()
        finally:
            await it.close()
        return it


@way
@known
@pytest.mark.parametrize(
    "data", [b"{", b"\xff\xfe", b"[" * 20_000, b'{"id":-1,"connect":{}}', b"9", b"\x00" * 100], ids=range(6)
)
async def test_what_is_malformed_ends_its_client_alone(server: Server, name: str, known: bool, data: bytes) -> None:
    it = await tried(server, name, data, known=known)
    assert not it.heard or b"3501" in it.heard or b"disconnect" in it.heard
    assert not any(status >= 500 for status in it.statuses)
    await still_serves(server)


@way
@known
async def test_what_is_too_large_is_refused_before_it_is_in_memory(server: Server, name: str, known: bool) -> None:
    size = 48 * MIB if name != "events" or known else 60_000  # a URL
    with grows_by_less_than(server, 48 * MIB):
        for _ in range(3):
            async with httpx.AsyncClient(timeout=seconds(20)) as http:
                it = WAYS[name](server, http)
                await it.begin(known=known)
                await it.say(b"x" * size)
                await it.close()
                assert it.statuses[-1] in (0, 400, 413, 414)
    await still_serves(server)


@way
@known
async def test_a_body_that_claims_to_be_compressed_is_not_inflated(server: Server, name: str, known: bool) -> None:
    """Of HTTP alone: nobody agreed on that, and a bomb would be as cheap as over a WebSocket."""
    bomb = gzip.compress(b" " * (32 * MIB))
    path = {"stream": "/connection/http_stream", "events": "/emulation", "polls": POLLS}[name]
    with grows_by_less_than(server, 16 * MIB):
        async with httpx.AsyncClient(timeout=seconds(10)) as http:
            it = WAYS[name](server, http)
            await it.begin(known=known)
            where = getattr(it, "_path", path)
            answer = await it.post(where, bomb, **{"Content-Encoding": "gzip"})
            if answer is not None and answer.status_code == 200:
                assert b"disconnect" in answer.content
            await it.close()
    await still_serves(server)


@pytest.mark.parametrize("name", ["events", "polls"])
async def test_who_opens_something_and_never_says_who_it_is_is_gone_in_time(server: Server, name: str) -> None:
    """As `test_who_never_says_who_it_is_is_closed`, for what that leaves out."""
    async with httpx.AsyncClient(timeout=seconds(10)) as http:
        it = WAYS[name](server, http)
        await it.begin(known=False)
        if name == "events":
            await it.say(b"{}")
        assert await it.ended()
        await it.close()


@way
async def test_who_has_a_token_that_ends_or_is_taken_back_is_gone_in_time(server: Server, name: str) -> None:
    for index, claims in enumerate(({"expires_in": seconds(1)}, {"claims": {"jti": f"taken back, {name}"}})):
        async with httpx.AsyncClient(timeout=seconds(20)) as http:
            it = WAYS[name](server, http)
            it.claims = claims
            await it.begin(known=True)
            if index:
                revoked = await http.post(server.http("/api/revoke"), json={"token": f"taken back, {name}"})
                assert "result" in revoked.json(), revoked.text
            assert await it.ended()
            await it.close()


@pytest.mark.parametrize("position", ["{epoch}:1", "{epoch}:0", "{epoch}:999999999", "another:1", "oldest"])
@pytest.mark.parametrize("accept", ["text/event-stream", "application/json"])
async def test_a_position_of_another_channel_gives_nothing_of_it(server: Server, position: str, accept: str) -> None:
    headers = {"Authorization": f"Bearer {token()}"}
    async with httpx.AsyncClient(timeout=seconds(10), base_url=server.http(""), headers=headers) as http:
        for channel, said in (("small:theirs", "secret"), ("small:theirs", "secret"), ("small:ours", "ours")):
            assert (await http.post(f"/channels/{channel}", json=said)).status_code == 200
        epoch = (await http.get("/channels/small:theirs")).json()["epoch"]
        since = {"since": position.replace("{epoch}", epoch)}
        async with http.stream("GET", "/channels/small:ours", params=since, headers={"Accept": accept}) as answer:
            got = ""
            async for line in answer.aiter_lines():
                got += line
                if line.startswith("data:"):  # of the first event: what was recovered, or why it was not
                    break
            assert "secret" not in got
            assert answer.status_code < 500
    await still_serves(server)
