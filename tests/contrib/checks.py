"""What `test_django.py` runs beside a real Django: who gets in by its sessions, and who does not."""

import asyncio
from importlib import import_module
from typing import Any

from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.auth.models import User

from freshet import Disconnect, Freshet
from freshet.contrib.django import use_sessions

BACKEND = "django.contrib.auth.backends.ModelBackend"


def log_in(user: User, **changes: Any) -> str:
    """The cookie's value of a session in which the user is logged in, as `django.contrib.auth.login` writes it."""
    session = import_module(settings.SESSION_ENGINE).SessionStore()
    session[SESSION_KEY] = str(user.pk)
    session[BACKEND_SESSION_KEY] = BACKEND
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    for name, value in changes.items():
        session[name] = value
    session.save()
    return str(session.session_key)


async def who(live: Freshet, key: str | None) -> str | int:
    """As whom a client with that cookie gets in; or the code with which it does not."""
    headers = {"cookie": f"other=1; sid={key}; more=2"} if key is not None else {}
    try:
        async with live.test_client(headers=headers) as client:
            return str(await client.rpc("who"))
    except Disconnect as why:
        return why.code


def application(**options: Any) -> Freshet:
    live = Freshet(environment={})
    live.channel("*")
    use_sessions(live, **options)

    @live.rpc("who")
    async def answer(session: Any, data: Any) -> str:
        return str(session.user)

    return live


def run() -> None:
    alice = User.objects.create_user("alice", password="wonderland")
    gone = User.objects.create_user("gone")
    keys = {
        "right": log_in(alice),
        "no hash": log_in(alice, **{HASH_SESSION_KEY: ""}),
        "wrong hash": log_in(alice, **{HASH_SESSION_KEY: "0" * 64}),
        "foreign backend": log_in(alice, **{BACKEND_SESSION_KEY: "os.path"}),
        "older secret": log_in(alice, **{HASH_SESSION_KEY: next(iter(alice.get_session_auth_fallback_hash()))}),
        "deleted": log_in(gone),
        "inactive": "",
    }
    anonymous = import_module(settings.SESSION_ENGINE).SessionStore()
    anonymous["basket"] = [1]
    anonymous.save()
    keys["nobody logged in"] = str(anonymous.session_key)
    idle = User.objects.create_user("idle")
    keys["inactive"] = log_in(idle)
    User.objects.filter(pk=idle.pk).update(is_active=False)
    gone.delete()
    expected = {"right": str(alice.pk), "older secret": str(alice.pk)}

    async def look() -> None:
        live = application()
        async with live.lifespan():
            for name, key in keys.items():
                assert await who(live, key) == expected.get(name, 3500), name
            for made_up in ("", "short", "x" * 32, "../../etc/passwd", "x" * 5000):
                assert await who(live, made_up) == 3500, made_up
            assert await who(live, None) == 3500

    asyncio.run(look())
    asyncio.run(_own_claims(keys["right"]))
    asyncio.run(_no_longer(alice, keys["right"]))


async def _own_claims(key: str) -> None:
    live = application(claims=lambda user: {"sub": user.get_username()}, recheck=30)
    async with live.lifespan(), live.test_client(headers={"cookie": f"sid={key}"}) as client:
        assert await client.rpc("who") == "alice"


async def _no_longer(alice: User, key: str) -> None:
    """Logging out, and a new password, end what a cookie is good for, once what was kept of it is over."""
    live = application(keep=0)
    async with live.lifespan():
        assert await who(live, key) == str(alice.pk)
        before = alice.password
        await asyncio.to_thread(_password, alice, "changed")
        assert await who(live, key) == 3500
        await asyncio.to_thread(User.objects.filter(pk=alice.pk).update, password=before)
        assert await who(live, key) == str(alice.pk)
        if "signed_cookies" not in settings.SESSION_ENGINE:  # there the cookie is the session
            await asyncio.to_thread(import_module(settings.SESSION_ENGINE).SessionStore(key).delete)
            assert await who(live, key) == 3500


def _password(user: User, password: str) -> None:
    user.set_password(password)
    user.save()
