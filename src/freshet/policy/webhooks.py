"""The application's word over HTTP: the same questions that hooks in Python answer, and events that it is notified of.

`WebhookHooks` gives functions with the signatures of hooks, so that commands do not know who answers. An answer is a
JSON object with known fields alone: one with others, or none at all, refuses.
"""

from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, NoReturn, Self
from urllib.parse import urlsplit

import msgspec

from freshet.config import Webhooks
from freshet.errors import ConfigError, Disconnect, Refusal
from freshet.model.frame import Handshake
from freshet.policy.webhook_client import WebhookClient, WebhookFailed, key_of
from freshet.rules.hooks import Hook, Hooks, Welcome
from freshet.rules.rules import ChannelRule
from freshet.runtime.clock import Clock
from freshet.session.session import Session

NO = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
CODES, CLOSES = range(1000, 4_294_967_296), range(4000, 5000)  # an application's own
NOTHING = msgspec.Raw(b"null")
LONGEST_REASON = 123  # bytes of a close reason


class WebhookError(msgspec.Struct, forbid_unknown_fields=True):
    """The command is refused: `code` from 1000 on, and what the client gets with it."""

    code: int
    message: str = "refused"
    temporary: bool = False


class WebhookDisconnect(msgspec.Struct, forbid_unknown_fields=True):
    """The client is disconnected: `code` 4000-4499 if it is to reconnect, 4500-4999 if not."""

    code: int
    reason: str = ""


class WebhookAnswer(msgspec.Struct, forbid_unknown_fields=True):
    """What every answer may say. Neither: it may."""

    error: WebhookError | None = None
    disconnect: WebhookDisconnect | None = None


class ConnectAnswer(WebhookAnswer):
    """As `Welcome`. user: who it is; without one, who its token says it is."""

    user: str | None = None
    info: msgspec.Raw = NOTHING
    channels: list[str] = []
    data: msgspec.Raw = NOTHING
    expires: float | None = None


class RefreshAnswer(WebhookAnswer):
    """expires: epoch seconds; None: it may stay for as long as it likes. expired: it may not stay."""

    expires: float | None = None
    expired: bool = False


class DataAnswer(WebhookAnswer):
    """data: what is published instead, or what an rpc answers."""

    data: msgspec.Raw = NOTHING


class WebhookHooks:
    """client: None: there is no receiver, and no rule may want one."""

    def __init__(self, client: WebhookClient | None, config: Webhooks) -> None:
        self._maybe = client
        self._events = frozenset(config.events)
        self._headers = [name.lower() for name in config.headers]
        self._node = ""

    @classmethod
    def from_config(cls, config: Webhooks, secrets: Sequence[str], clock: Clock) -> Self:
        """Raises ConfigError."""
        if config.url is None:
            if config.events:
                raise ConfigError("webhooks.url", "expected where the application is, for `events`")
            return cls(None, config)
        _check_url(config.url)
        if not secrets:
            raise ConfigError("webhooks.secret", f"expected `whsec_...`, here or in {config.secret_env}")
        keys = [key_of(secret) for secret in secrets]
        return cls(WebhookClient(config.url, keys, config.timeout, config.concurrency, clock), config)

    async def start(self, node: str) -> None:
        """node: what the application knows this process by."""
        self._node = node
        if self._maybe is not None:
            await self._maybe.start()

    async def stop(self, grace: float) -> None:
        """grace: seconds for the events that are not delivered yet."""
        if self._maybe is not None:
            await self._maybe.stop(grace)

    def install(self, hooks: Hooks, rules: Iterable[ChannelRule]) -> None:
        """Let the application answer where no function in Python does. Raises ConfigError."""
        if "connect" in self._events and hooks.connect is None:
            hooks.connect = Hook(self.connect, ("session",), ("data", "request"))
        if "refresh" in self._events:
            hooks.refresh = Hook(self.refresh, ("session",))
        if "rpc" in self._events:
            hooks.any_rpc = Hook(self.rpc, ("session", "method", "data"))
        if "disconnect" in self._events and hooks.disconnect is None:
            hooks.disconnect = Hook(self.disconnected, ("session",), ("why",))
        for rule in rules:
            self._install(rule)

    def _install(self, rule: ChannelRule) -> None:
        if rule.webhooks and self._maybe is None:
            raise ConfigError(
                "webhooks.url", f"the rule {rule.match!r} wants webhooks: expected where the application is"
            )
        if "subscribe" in rule.webhooks and rule.on_subscribe is None:
            rule.on_subscribe = Hook(self.subscribe, ("session",), ("channel", *rule.parameters, "data"))
        if "publish" in rule.webhooks and rule.on_publish is None:
            rule.on_publish = Hook(self.publish, ("session", "data"), ("channel", *rule.parameters))

    @property
    def connects(self) -> bool:
        """Whether the application says who may connect."""
        return "connect" in self._events

    @property
    def _client(self) -> WebhookClient:
        assert self._maybe is not None  # otherwise nothing is installed
        return self._maybe

    # ------------------------------------------------------------------------------------------------------- questions

    async def connect(self, session: Session, data: msgspec.Raw, request: Handshake) -> Welcome:
        """For `on_connect`."""
        about = {
            "client": session.id,
            "user": session.user,
            "claims": session.claims,
            "dialect": session.dialect.label,
            "address": request.client,
            "path": request.path,
            "headers": {name: request.headers[name] for name in self._headers if name in request.headers},
            "data": data,
        }
        try:
            answer = await self._ask("client.connect", about, ConnectAnswer, again=True)
        except WebhookFailed as why:
            if why.status in NO:
                raise Disconnect.permission_denied("the application refused the client") from None
            _unanswered(why)
        return Welcome(answer.user, _given(answer.info), answer.channels, _given(answer.data), answer.expires)

    async def refresh(self, session: Session) -> float | None:
        """Until when the session may stay, epoch seconds; None: without an end.

        Raises `Disconnect` 3005 when it may not.
        """
        answer: RefreshAnswer = await self._ask_of(session, "client.refresh", {}, RefreshAnswer, again=True)
        if answer.expired:
            raise Disconnect.expired()
        return answer.expires

    async def subscribe(self, session: Session, channel: str, data: msgspec.Raw = NOTHING, **parameters: str) -> None:
        """For `on_subscribe`."""
        about = {"channel": channel, "parameters": parameters, "data": data}
        await self._ask_of(session, "client.subscribe", about, WebhookAnswer, again=True)

    async def publish(self, session: Session, data: msgspec.Raw, channel: str, **parameters: str) -> Any:
        """For `on_publish`. What is no JSON is shown as text, and bytes in base64."""
        about = {"channel": channel, "parameters": parameters, "data": data}
        return _given((await self._ask_of(session, "client.publish", about, DataAnswer, again=False)).data)

    async def rpc(self, session: Session, method: str, data: msgspec.Raw) -> Any:
        """For calls that no function in Python answers."""
        about = {"method": method, "data": data}
        return _given((await self._ask_of(session, "client.rpc", about, DataAnswer, again=False)).data)

    async def _ask_of(
        self, session: Session, kind: str, about: Mapping[str, Any], answer: type[Any], *, again: bool
    ) -> Any:
        try:
            return await self._ask(kind, {"client": session.id, "user": session.user, **about}, answer, again=again)
        except WebhookFailed as why:
            if why.status in NO:
                raise Refusal.permission_denied("the application refused it") from None
            _unanswered(why)

    async def _ask(self, kind: str, about: Mapping[str, Any], answer: type[Any], *, again: bool) -> Any:
        """Raises WebhookFailed, and `Refusal` or `Disconnect` where the answer says so."""
        answered = await self._client.ask(kind, {"node": self._node, **about}, answer, again=again)
        if (close := answered.disconnect) is not None:
            raise Disconnect(
                close.code if close.code in CLOSES else 4500,
                close.reason.encode()[:LONGEST_REASON].decode("utf-8", "ignore"),
            )
        if (error := answered.error) is not None:
            raise Refusal(error.code if error.code in CODES else 1000, error.message, temporary=error.temporary)
        return answered

    # ---------------------------------------------------------------------------------------------------------- events

    def disconnected(self, session: Session, why: Disconnect | None) -> None:
        about = {"client": session.id, "user": session.user, "node": self._node}
        code = {"code": why.code, "reason": why.reason} if why is not None else {}
        self._client.notify("client.disconnect", {**about, **code})

    def occupancy(self, channel: str, rule: ChannelRule, occupied: bool) -> None:
        """A channel got its first subscriber at this node, or lost its last one."""
        kind = "occupied" if occupied else "vacated"
        if kind in rule.webhooks:
            self._client.notify(f"channel.{kind}", {"channel": channel, "node": self._node})


def _given(data: msgspec.Raw) -> msgspec.Raw | None:
    """null is what was not said."""
    return data if data != NOTHING else None


def _unanswered(why: WebhookFailed) -> NoReturn:
    raise Refusal.internal("the application did not answer") from why


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        valid = False
    if not valid:
        raise ConfigError("webhooks.url", "expected https://... or http://...")
