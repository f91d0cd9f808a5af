"""Traces of a message by a real OpenTelemetry SDK: who published, each fan-out, the link between; no more."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import msgspec
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanContext, SpanKind, StatusCode

from freshet import Freshet
from freshet.backends import tracing_of
from freshet.config import parse
from freshet.errors import ConfigError, EngineUnavailable
from freshet.model.log import History, PublishOptions
from freshet.observe.logs import TRACE
from freshet.observe.otel import SCHEMA, OpenTelemetryTracing

TRACE_ID, SPAN_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE_ID}-{SPAN_ID}-01"
OPTIONS = {"tokens": {"anonymous": True}, "api": {"anonymous": True}, "tracing": {"enabled": True}}


class Traced:
    """An application, and the spans that it makes."""

    def __init__(self, *, expose: bool = False) -> None:
        self.exporter = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.live = Freshet(config=parse({**OPTIONS, "tracing": {"enabled": True, "expose": expose}}), environment={})
        self.live.channel("news:{topic}", history={"size": 10, "ttl": 60}, publish="client")
        self.live._node.trace(OpenTelemetryTracing(expose=expose, provider=provider))

    def spans(self, kind: SpanKind) -> list[ReadableSpan]:
        return [span for span in self.exporter.get_finished_spans() if span.kind is kind]


@pytest.fixture
async def traced() -> AsyncIterator[Traced]:
    it = Traced()
    async with it.live.lifespan():
        yield it


def ids(context: SpanContext | None) -> tuple[int, int]:
    assert context is not None
    return context.trace_id, context.span_id


def trace_of(span: ReadableSpan) -> str:
    assert span.context is not None
    return f"{span.context.trace_id:032x}"


async def test_a_publication_is_a_span_and_a_fan_out_another_one_however_many_clients_it_has(traced: Traced) -> None:
    async with traced.live.test_client() as one, traced.live.test_client() as two:
        for client in (one, two):
            await client.subscribe("news:tech")
        await traced.live.publish("news:tech", {"n": 1})
        for client in (one, two):
            assert (await client.receive()).data == {"n": 1}
    (produced,) = traced.spans(SpanKind.PRODUCER)
    (consumed,) = traced.spans(SpanKind.CONSUMER)
    assert (produced.name, consumed.name) == ("publish news:{topic}", "deliver news:{topic}")
    assert dict(produced.attributes or {}) == {
        "messaging.system": "freshet",
        "messaging.operation.name": "publish",
        "messaging.operation.type": "send",
        "messaging.destination.name": "news:tech",
        "messaging.destination.template": "news:{topic}",
        "messaging.message.body.size": 7,
    }
    assert (consumed.attributes or {})["freshet.subscribers"] == 2
    assert (consumed.attributes or {})["messaging.batch.message_count"] == 1
    assert [ids(link.context) for link in consumed.links] == [ids(produced.context)]
    assert consumed.parent is None
    assert consumed.instrumentation_scope is not None
    assert consumed.instrumentation_scope.schema_url == SCHEMA


async def test_what_is_fanned_out_together_is_one_span_with_a_link_to_each(traced: Traced) -> None:
    async with traced.live.test_client() as client:
        await client.subscribe("news:a")
        await asyncio.gather(*(traced.live.publish("news:a", index) for index in range(3)))
        for _ in range(3):
            await client.receive()
    consumed = traced.spans(SpanKind.CONSUMER)
    linked = [ids(link.context) for span in consumed for link in span.links]
    assert sorted(linked) == sorted(ids(it.context) for it in traced.spans(SpanKind.PRODUCER))
    assert len(linked) == 3
    assert len(consumed) < 3


async def test_a_request_that_is_traced_is_the_parent_of_what_it_publishes(traced: Traced) -> None:
    transport = httpx.ASGITransport(traced.live)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
        message = {"channel": "news:a", "data": 1}
        (await http.post("/api/publish", json=message, headers={"traceparent": PARENT})).raise_for_status()
        (await http.post("/channels/news:a", json=2, headers={"traceparent": PARENT})).raise_for_status()
        (await http.post("/api/publish", json=message)).raise_for_status()
        (await http.post("/api/publish", json=message, headers={"traceparent": "no such thing"})).raise_for_status()
    by_api, by_url, alone, wrong = traced.spans(SpanKind.PRODUCER)
    for span in (by_api, by_url):
        assert trace_of(span) == TRACE_ID
        assert span.parent is not None
        assert f"{span.parent.span_id:016x}" == SPAN_ID
    assert alone.parent is wrong.parent is None
    assert TRACE.get() == ""


async def test_what_a_hook_publishes_belongs_to_the_span_in_which_it_does(traced: Traced) -> None:
    tracer = trace.get_tracer("mine", tracer_provider=TracerProvider())

    @traced.live.rpc("order")
    async def order(session: object, data: Any) -> str:
        with tracer.start_as_current_span("order") as span:
            await traced.live.publish("news:a", 1)
        return f"{span.get_span_context().trace_id:032x}"

    async with traced.live.test_client() as client:
        theirs = await client.rpc("order")
    (produced,) = traced.spans(SpanKind.PRODUCER)
    assert trace_of(produced) == theirs


@pytest.mark.parametrize("expose", [False, True])
async def test_clients_get_no_trace_unless_that_is_asked_for(expose: bool) -> None:
    traced = Traced(expose=expose)
    async with traced.live.lifespan(), traced.live.test_client() as client:
        await client.subscribe("news:a")
        await traced.live.publish("news:a", 1, tags={"kind": "x"})
        received = await client.receive()
        (kept,) = (await traced.live.history("news:a")).publications
    (produced,) = traced.spans(SpanKind.PRODUCER)
    assert received.tags["kind"] == "x"
    assert ("traceparent" in received.tags) is expose
    assert kept.stamp is not None
    assert kept.stamp.trace.split("-")[1] == trace_of(produced)
    if expose:
        assert received.tags["traceparent"] == kept.stamp.trace


async def test_a_publication_that_fails_is_a_span_with_an_error(
    traced: Traced, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object) -> None:
        raise EngineUnavailable("nobody there")

    monkeypatch.setitem(traced.live._node.owners, "log", away)
    with pytest.raises(EngineUnavailable):
        await traced.live.publish("news:a", 1)
    (produced,) = traced.spans(SpanKind.PRODUCER)
    assert produced.status.status_code is StatusCode.ERROR


async def test_what_a_broker_brings_as_a_trace_may_be_anything(traced: Traced) -> None:
    node = traced.live._node
    async with traced.live.test_client() as client:
        await client.subscribe("news:a")
        for wrong in ("x", "00-1-2-3", "é" * 9):
            options = msgspec.structs.replace(options_of(), stamp=node.stamp(wrong))
            await node.engine.publish("news:a", json.dumps(wrong).encode(), options)
            assert (await client.receive()).data == wrong
    assert len(traced.spans(SpanKind.CONSUMER)) == 3


def options_of() -> PublishOptions:
    return PublishOptions(history=History(10, 60))


def test_without_the_option_nothing_is_traced() -> None:
    assert tracing_of(parse({})) is None
    assert Freshet(environment={})._node.tracing is None


def test_without_the_package_the_option_is_refused_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "freshet.observe.otel", None)
    with pytest.raises(ConfigError, match=r"pip install freshet\[otel\]"):
        tracing_of(parse(OPTIONS))
