"""Freshet, the real-time server for Python."""

from freshet.app import Freshet
from freshet.config import Config
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
from freshet.model.frame import Handshake
from freshet.model.http import HttpRequest, HttpResponse
from freshet.model.log import ClientInfo, History, Position, Publication, Stream
from freshet.model.run_messages import RunState
from freshet.rooms.room import Room, RoomSession
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
    "Disconnect",
    "EngineUnavailable",
    "Freshet",
    "FreshetError",
    "Handshake",
    "History",
    "HttpRequest",
    "HttpResponse",
    "NotRunning",
    "Position",
    "Publication",
    "Refusal",
    "Room",
    "RoomSession",
    "Run",
    "RunState",
    "Session",
    "SocketSession",
    "StoreUnavailable",
    "Stream",
    "Welcome",
]
