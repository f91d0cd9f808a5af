"""The application's word over HTTP: the same questions that hooks in Python answer, and events that it is notified of.

`WebhookHooks` gives functions with the signatures of hooks, so that commands do not know who answers. An answer is a
JSON object with known fields alone: one with others, or none at all, refuses.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, NoReturn

import msgspec

from freshet.errors import Disconnect, Refusal
from freshet.model.frame import Handshake
from freshet.policy.webhook_client import WebhookClient, WebhookFailed
from freshet.rules.hooks import Welcome
from freshet.session.session import Session

NO = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
CODES, CLOSES = range(1000, 4_294_967_296), range(4000, 5000)  # an application's own
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


class Answer(msgspec.Struct, forbid_unknown_fields=True):
    """What every answer may say. Neither: it may."""

    error: WebhookError | None = None
    disconnect: WebhookDisconnect | None = None


class ConnectAnswer(Answer):
    """As `Welcome`. user: who it is; without one, who its token says it is."""

    user: str | None = None
    info: msgspec.Raw | None = None
    channels: list[str] = []
    data: msgspec.Raw | None = None
    expires: float | None = None


class RefreshAnswer(Answer):
    """expires: epoch seconds; None: it may stay for as long as it likes. expired: it may not stay."""

    expires: float | None = None
    expired: bool = False


class DataAnswer(Answer):
    """data: what is published instead, or what an rpc answers."""

    data: msgspec.Raw | None = None


class WebhookHooks:
    """headers: names in lower case, those of a client's request that the application is shown."""

    def __init__(self, client: WebhookClient, headers: list[str], node: str) -> None:
        self._client = client
        self._headers = [name.lower() for name in headers]
        self._node = node

    # ------------------------------------------------------------------------------------------------------- questions

    async def connect(self, session: Session, data: Any = None, request: Handshake | None = None) -> Welcome:
        """For `on_connect`."""
        shown = request or Handshake("")
        about = {
            "client": session.id,
            "user": session.user,
            "claims": session.claims,
            "dialect": session.dialect.name,
            "address": shown.client,
            "path": shown.path,
            "headers": {name: shown.headers[name] for name in self._headers if name in shown.headers},
            "data": data,
        }
        try:
            answer = await self._ask("client.connect", about, ConnectAnswer, again=True)
        except WebhookFailed as why:
            if why.status in NO:
                raise Disconnect.permission_denied("the application refused the client") from None
            _unanswered(why)
        return Welcome(answer.user, answer.info, answer.channels, answer.data, answer.expires)

    async def refresh(self, session: Session) -> float | None:
        """Until when the session may stay, epoch seconds; None: without an end.

        Raises `Disconnect` 3005 when it may not.
        """
        answer: RefreshAnswer = await self._ask_of(session, "client.refresh", {}, RefreshAnswer, again=True)
        if answer.expired:
            raise Disconnect.expired()
        return answer.expires

    async def subscribe(self, session: Session, data: Any = None, **parameters: str) -> None:
        """For `on_subscribe`."""
        about = {"parameters": parameters, "data": data}
        await self._ask_of(session, "client.subscribe", about, Answer, again=True)

    async def publish(self, session: Session, data: Any, **parameters: str) -> Any:
        """For `on_publish`."""
        about = {"parameters": parameters, "data": data}
        return (await self._ask_of(session, "client.publish", about, DataAnswer, again=False)).data

    async def rpc(self, session: Session, method: str, data: Any) -> Any:
        """For calls that no function in Python answers."""
        about = {"method": method, "data": data}
        return (await self._ask_of(session, "client.rpc", about, DataAnswer, again=False)).data

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

    def occupied(self, channel: str) -> None:
        self._client.notify("channel.occupied", {"channel": channel, "node": self._node})

    def vacated(self, channel: str) -> None:
        self._client.notify("channel.vacated", {"channel": channel, "node": self._node})


def _unanswered(why: WebhookFailed) -> NoReturn:
    raise Refusal.internal("the application did not answer") from why
