"""Answers of the application to webhooks: one that is none refuses, and never lets anybody in."""

from collections.abc import Hashable
from random import Random

import httpx
import msgspec

from freshet.policy.webhook_client import WebhookClient, WebhookFailed
from freshet.policy.webhooks import ConnectAnswer, DataAnswer, RefreshAnswer
from freshet.testing import ManualClock
from tests.fuzz.brokers import OneLoop
from tests.fuzz.grammar import json_text, maybe, text, value
from tests.fuzz.harness import Target

KINDS = (ConnectAnswer, RefreshAnswer, DataAnswer)
FIELDS = sorted({name for kind in KINDS for name in kind.__struct_fields__})
_on_loop = OneLoop()


class _Receiver:
    """A client of an application that answers what it is told to."""

    def __init__(self) -> None:
        self.status, self.body = 200, b""
        self._client: WebhookClient | None = None

    async def client(self) -> WebhookClient:
        if self._client is None:
            self._client = WebhookClient("http://app/", [b"k" * 24], 5, 4, ManualClock())
            await self._client.start()
            assert self._client._http is not None
            await self._client._http.aclose()
            transport = httpx.MockTransport(lambda request: httpx.Response(self.status, content=self.body))
            self._client._http = httpx.AsyncClient(transport=transport)
        self._client._breaker.succeeded()
        return self._client


_receiver = _Receiver()


async def _ask(data: bytes) -> Hashable:
    """A byte that says which status, and the body."""
    _receiver.status = (200, 200, 200, 204, 302, 400, 404, 410, 429, 500)[data[0] % 10 if data else 0]
    _receiver.body, outcomes = data[1:], list[Hashable]()
    for kind in KINDS:
        client = await _receiver.client()
        try:
            made = await client.ask("connect", {}, kind, again=True)
        except WebhookFailed as why:
            outcomes.append((why.status, str(why)[:30]))
            continue
        assert _receiver.status in (200, 204)
        assert isinstance(made, kind)
        msgspec.json.decode(_receiver.body, type=dict[str, object])
        outcomes.append(sum(bool(getattr(made, name)) for name in made.__struct_fields__))
    return tuple(outcomes)


def run_webhook(data: bytes) -> Hashable:
    return _on_loop(_ask(data))


def _answer(chance: Random) -> bytes:
    given = maybe(
        chance,
        {
            name: lambda: chance.choice((text(chance), value(chance), 7, {"code": 100, "message": "no"}))
            for name in FIELDS
        },
    )
    return bytes((chance.randrange(10) if chance.random() < 0.3 else 0,)) + json_text(chance, given)


WORDS = [b'"%b"' % name.encode() for name in FIELDS] + [b"null", b"{}", b"true", b":", b","]
TARGETS = [Target("webhook", run_webhook, _answer, WORDS, fixed=0.05, each=4e-6, swells=400)]
