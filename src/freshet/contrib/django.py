"""Clients are who they are logged in as in Django: by the cookie of its session, in whatever store that is.

    from freshet.contrib.django import use_sessions

    live = Freshet()
    use_sessions(live)

The session is read and never written: what a page would repair, such as a hash by an older `SECRET_KEY`, the next page
repairs.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY, get_user_model, load_backend
from django.db import close_old_connections
from django.utils.crypto import constant_time_compare

from freshet import Freshet

MINUTES = 60  # seconds
KEY, COOKIE = 128, 4096  # characters of a session's key, and of a cookie that is the session itself

Claims = Callable[[Any], Mapping[str, Any]]


def primary_key(user: Any) -> Mapping[str, Any]:
    """The user's primary key, as text."""
    return {"sub": str(user.pk)}


def use_sessions(
    live: Freshet, *, keep: float = 1 * MINUTES, recheck: float = 10 * MINUTES, claims: Claims = primary_key
) -> None:
    """Let clients in that have the cookie of a session in which somebody is logged in.

    keep: seconds for which the same cookie is believed without a look at the session. recheck: seconds after which a
    client that stays is asked again: it reconnects, and gets what it missed. claims: what its token would say, made of
    the user.
    """

    @live.on_authenticate(cookie=settings.SESSION_COOKIE_NAME, keep=keep)
    async def who(token: str) -> Mapping[str, Any] | None:
        user = await asyncio.to_thread(_alone, user_of, token)
        return None if user is None else {"exp": time.time() + recheck, **claims(user)}


def user_of(session_key: str) -> Any | None:
    """The user who is logged in there; None: nobody. As `django.contrib.auth.get_user`, without writing."""
    if len(session_key) > (COOKIE if settings.SESSION_ENGINE.endswith(".signed_cookies") else KEY):
        return None  # before it is the name of a file, or a key of a cache
    session = import_module(settings.SESSION_ENGINE).SessionStore(session_key)
    backend_path, identity = session.get(BACKEND_SESSION_KEY), session.get(SESSION_KEY)
    if identity is None or backend_path not in settings.AUTHENTICATION_BACKENDS:
        return None
    user = load_backend(backend_path).get_user(get_user_model()._meta.pk.to_python(identity))
    if user is None or not hasattr(user, "get_session_auth_hash"):
        return user
    given = session.get(HASH_SESSION_KEY) or ""
    right = [user.get_session_auth_hash(), *user.get_session_auth_fallback_hash()]
    return user if any(constant_time_compare(given, each) for each in right) else None


def _alone(function: Callable[[str], Any], argument: str) -> Any:
    """Run in a thread of a pool, which keeps no connection that Django would have closed."""
    close_old_connections()
    try:
        return function(argument)
    finally:
        close_old_connections()
