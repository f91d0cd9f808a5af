"""Freshet, the real-time server for Python.

A public name is imported when it is first used: a command that runs no server, and any module within, starts without
what only a server needs.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from freshet.app import Freshet
    from freshet.commands.connections import ConnectionInfo
    from freshet.config import Config
    from freshet.endpoints.gateway.connection import Connection
    from freshet.endpoints.gateway.gateway import Gateway, Gone
    from freshet.endpoints.socketio.sessions import SocketSession
    from freshet.errors import (
        ConfigError,
        Disconnect,
        EngineUnavailable,
        FreshetError,
        NotRunning,
        Refusal,
        StoreUnavailable,
    )
    from freshet.model.entries import MISSING
    from freshet.model.frame import Handshake
    from freshet.model.http import HttpRequest, HttpResponse
    from freshet.model.log import ClientInfo, History, Position, Publication, Stream
    from freshet.model.run_messages import RunState
    from freshet.rooms.room import Room, RoomSession
    from freshet.rooms.rule import StateChannel
    from freshet.rooms.state import RoomState
    from freshet.rules.channel import Channel
    from freshet.rules.hooks import Welcome
    from freshet.runs.run import Approval, Run
    from freshet.session.session import Session

__version__ = "0.1.0"

__all__ = [
    "Approval",
    "Channel",
    "ClientInfo",
    "Config",
    "ConfigError",
    "Connection",
    "ConnectionInfo",
    "Disconnect",
    "EngineUnavailable",
    "Freshet",
    "FreshetError",
    "Gateway",
    "Gone",
    "Handshake",
    "History",
    "HttpRequest",
    "HttpResponse",
    "MISSING",
    "NotRunning",
    "Position",
    "Publication",
    "Refusal",
    "Room",
    "RoomSession",
    "RoomState",
    "Run",
    "RunState",
    "Session",
    "SocketSession",
    "StateChannel",
    "StoreUnavailable",
    "Stream",
    "Welcome",
]

_HOMES = {
    "Approval": "freshet.runs.run",
    "Channel": "freshet.rules.channel",
    "ClientInfo": "freshet.model.log",
    "Config": "freshet.config",
    "ConfigError": "freshet.errors",
    "Connection": "freshet.endpoints.gateway.connection",
    "ConnectionInfo": "freshet.commands.connections",
    "Disconnect": "freshet.errors",
    "EngineUnavailable": "freshet.errors",
    "Freshet": "freshet.app",
    "FreshetError": "freshet.errors",
    "Gateway": "freshet.endpoints.gateway.gateway",
    "Gone": "freshet.endpoints.gateway.gateway",
    "Handshake": "freshet.model.frame",
    "History": "freshet.model.log",
    "HttpRequest": "freshet.model.http",
    "HttpResponse": "freshet.model.http",
    "MISSING": "freshet.model.entries",
    "NotRunning": "freshet.errors",
    "Position": "freshet.model.log",
    "Publication": "freshet.model.log",
    "Refusal": "freshet.errors",
    "Room": "freshet.rooms.room",
    "RoomSession": "freshet.rooms.room",
    "RoomState": "freshet.rooms.state",
    "Run": "freshet.runs.run",
    "RunState": "freshet.model.run_messages",
    "Session": "freshet.session.session",
    "SocketSession": "freshet.endpoints.socketio.sessions",
    "StateChannel": "freshet.rooms.rule",
    "StoreUnavailable": "freshet.errors",
    "Stream": "freshet.model.log",
    "Welcome": "freshet.rules.hooks",
}


def __getattr__(name: str) -> Any:
    """See PEP 562: called once for each name, which is then there."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
