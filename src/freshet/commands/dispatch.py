"""Runs what a client asked for, whatever it is, and tells it the reply.

A function of `commands` or `events` answers with the event that is the reply, or raises `Refusal`, which becomes the
reply, or `Disconnect`, which ends the session. Any other exception is logged with its traceback, and the client hears
"internal server error".
"""

import logging
from collections.abc import Awaitable, Callable
from typing import Any

from freshet.commands import client as commands
from freshet.endpoints.socketio import handlers as events
from freshet.errors import Disconnect, Refusal
from freshet.model.commands import (
    Call,
    Command,
    Connect,
    Emit,
    Ping,
    Publish,
    ReadHistory,
    ReadPresence,
    ReadPresenceStats,
    Refresh,
    RefreshSubscription,
    Send,
    Subscribe,
    Unsubscribe,
)
from freshet.model.events import Event, Refused
from freshet.node.node import Node
from freshet.observe.counts import add
from freshet.session.session import Session

log = logging.getLogger("freshet.commands")

Function = Callable[[Node, Session, Any], Awaitable[Event | None]]


async def run(node: Node, session: Session, command: Command) -> None:
    """Run one command of one client, and tell it the reply."""
    if not session.connected and type(command) is not Connect:
        raise Disconnect.bad_request("the first command must be connect")
    reply: Event | None
    try:
        reply = await _FUNCTIONS[type(command)](node, session, command)
    except Refusal as why:
        reply = _refused(node, command, why)
    except Disconnect:
        raise
    except Exception:
        log.exception("%s of %r failed", type(command).__name__, session)
        reply = _refused(node, command, Refusal.internal())
    if reply is not None:
        session.tell(reply)


def _refused(node: Node, command: Command, why: Refusal) -> Refused | None:
    add(node.counts.refusals, why.code)
    id = getattr(command, "id", 0)
    return Refused(id, why.code, why.message, why.temporary) if id else None


_FUNCTIONS: dict[type[Any], Function] = {
    Call: commands.call,
    Connect: commands.connect,
    Emit: events.emit,
    Ping: commands.ping,
    Publish: commands.publish,
    ReadHistory: commands.read_history,
    ReadPresence: commands.read_presence,
    ReadPresenceStats: commands.read_presence_stats,
    Refresh: commands.refresh,
    RefreshSubscription: commands.refresh_subscription,
    Send: commands.send,
    Subscribe: commands.subscribe,
    Unsubscribe: commands.unsubscribe,
}
