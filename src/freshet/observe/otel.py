"""Traces by OpenTelemetry: of a message, from its publisher to each node that fans it out, and never of each client.

The spans are those of the messaging conventions, in the version of `SCHEMA`. The SDK that the process has set up
decides what is done with them; without one they go nowhere.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from opentelemetry import context, trace
from opentelemetry.trace import Link, SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from freshet.observe.logs import TRACE
from freshet.observe.tracing import FanOut

SCHEMA = "https://opentelemetry.io/schemas/1.30.0"
HEADERS = (b"traceparent", b"tracestate")
LINKS = 128  # the SDK keeps no more

_w3c = TraceContextTextMapPropagator()


class OpenTelemetryTracing:
    """Implements `Tracing`. provider: None: the process's own."""

    def __init__(self, *, expose: bool = False, provider: trace.TracerProvider | None = None) -> None:
        self.expose = expose
        self._tracer = trace.get_tracer("freshet", tracer_provider=provider, schema_url=SCHEMA)

    @contextmanager
    def taken_from(self, headers: Iterable[tuple[bytes, bytes]]) -> Iterator[None]:
        carrier = {name.decode(): value.decode("latin-1") for name, value in headers if name in HEADERS}
        if "traceparent" not in carrier:
            yield
            return
        token = context.attach(_w3c.extract(carrier, context.get_current()))
        named = TRACE.set(_traceparent())
        try:
            yield
        finally:
            TRACE.reset(named)
            context.detach(token)

    @contextmanager
    def publishing(self, channel: str, template: str, size: int) -> Iterator[str]:
        attributes = {**_about("publish", "send", channel, template), "messaging.message.body.size": size}
        with self._tracer.start_as_current_span(f"publish {template}", kind=SpanKind.PRODUCER, attributes=attributes):
            named = TRACE.set(_traceparent())
            try:
                yield TRACE.get()
            finally:
                TRACE.reset(named)

    def delivered(self, fan_out: FanOut, template: str) -> None:
        span = self._tracer.start_span(
            f"deliver {template}",
            context.Context(),  # of its own: a fan-out may have what many published
            kind=SpanKind.CONSUMER,
            attributes={
                **_about("deliver", "process", fan_out.channel, template),
                "messaging.batch.message_count": fan_out.messages,
                "freshet.subscribers": fan_out.subscribers,
            },
            links=[Link(_read(traceparent)) for traceparent in fan_out.traces[:LINKS]],
            start_time=fan_out.began,
        )
        span.end()


def _about(operation: str, kind: str, channel: str, template: str) -> dict[str, str | int]:
    return {
        "messaging.system": "freshet",
        "messaging.operation.name": operation,
        "messaging.operation.type": kind,
        "messaging.destination.name": channel,
        "messaging.destination.template": template,
    }


def _traceparent() -> str:
    """Of the span that is current; empty: there is none."""
    carrier: dict[str, str] = {}
    _w3c.inject(carrier)
    return carrier.get("traceparent", "")


def _read(traceparent: str) -> trace.SpanContext:
    """What a broker brought may be anything: then it is the span of nobody."""
    found = _w3c.extract({"traceparent": traceparent}, context.Context())
    return trace.get_current_span(found).get_span_context()
