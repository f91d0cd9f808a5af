"""How `freshet serve` meets the network: the options of `[http]`, `[tls]`, `[internal]` and `[websocket]`."""

from typing import Annotated

from msgspec import Meta, Struct

from freshet.config.units import COUNT, KIB, SECONDS, SIZE, TIME


class Http(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What an HTTP request may be, under `freshet serve`; other servers have bounds of their own."""

    head_size: Annotated[int, Meta(ge=1 * KIB, description="The URL and all headers; beyond: 431.", extra=SIZE)] = (
        32 * KIB
    )
    url_size: Annotated[int, Meta(ge=256, description="The URL; beyond: 414.", extra=SIZE)] = 16 * KIB
    headers: Annotated[int, Meta(ge=8, description="Headers; beyond: 431.", extra=COUNT)] = 100
    pipelined: Annotated[
        int,
        Meta(ge=1, description="Requests that are sent before the responses are there; beyond: 429.", extra=COUNT),
    ] = 16
    head_timeout: Annotated[
        float, Meta(gt=0, description="For the URL and the headers to arrive; beyond: 408.", extra=TIME)
    ] = 10 * SECONDS
    body_timeout: Annotated[
        float,
        Meta(
            gt=0,
            description="For a body that stands still; one that comes with less than 500 bytes a second lasts not much "
            "longer. And for a response of which the client takes nothing.",
            extra=TIME,
        ),
    ] = 30 * SECONDS
    keep_alive: Annotated[
        float,
        Meta(
            gt=0,
            le=3600,
            description="In which an idle connection stays open: longer than a proxy in front keeps it.",
            extra=TIME,
        ),
    ] = 75 * SECONDS


class Tls(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`https://` and `wss://` under `freshet serve`: TLS 1.2 and 1.3. The files are PEM."""

    certificate: Annotated[
        str, Meta(description="The server's certificate, and behind it those that lead to the authority's; empty: off.")
    ] = ""
    key: Annotated[str, Meta(description="Its key, not encrypted; empty: it is in the certificate's file.")] = ""
    client_ca: Annotated[
        str,
        Meta(description="Authorities whose certificates clients have to show (mutual TLS); empty: they show none."),
    ] = ""
    reload: Annotated[
        float, Meta(ge=0.1, description="Between two looks at whether the files have changed.", extra=TIME)
    ] = 10 * SECONDS


class Internal(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A listener of `freshet serve` for operators: `/api`, `/metrics` and `/health`, the former two only there."""

    port: Annotated[
        int,
        Meta(ge=0, le=65535, description="0: there is none, they are at the public port.", extra={"unit": "TCP port"}),
    ] = 0
    host: Annotated[str, Meta(min_length=1, description="The address to listen on.")] = "127.0.0.1"
    tls: Annotated[bool, Meta(description="It speaks TLS too, with the files of `[tls]`.")] = False


class WebSocket(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The WebSocket transport."""

    compression: Annotated[bool, Meta(description="permessage-deflate, for clients that offer it.")] = False
