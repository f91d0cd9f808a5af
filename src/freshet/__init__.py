"""Freshet, the real-time server for Python."""

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
