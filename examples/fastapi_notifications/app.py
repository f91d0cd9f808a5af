"""Notifications for one user at a time. See README.md."""

from pathlib import Path
from typing import Annotated
from uuid import uuid4

from fastapi import Cookie, Depends, FastAPI, HTTPException, Response
from fastapi.responses import FileResponse
from pydantic import BaseModel, Field

from freshet import Freshet, History, Refusal, Session

DAY = 24 * 60 * 60  # seconds

live = Freshet()  # the secret comes from FRESHET_SECRET
notifications = live.channel("notifications:{user}", history=History(size=50, ttl=DAY))


@notifications.on_subscribe
async def only_ones_own(session: Session, user: str) -> None:
    if user != session.user:
        raise Refusal.permission_denied("these notifications are another user's")


api = FastAPI(lifespan=live.lifespan)
api.mount("/live", live)


class Notification(BaseModel):
    text: str
    id: str = Field(default_factory=lambda: uuid4().hex)


def logged_in(user: Annotated[str, Cookie()] = "") -> str:
    """Stands for your login: a cookie that anybody can set is none."""
    if not user:
        raise HTTPException(401, "log in first")
    return user


User = Annotated[str, Depends(logged_in)]


@api.get("/")
async def page() -> FileResponse:
    return FileResponse(Path(__file__).with_name("index.html"))


@api.post("/login/{user}")
async def login(user: str, response: Response) -> None:
    response.set_cookie("user", user, httponly=True, samesite="strict")


@api.get("/token")
async def token(user: User) -> dict[str, str]:
    return {"user": user, "token": live.token(user, expires_in=600)}


@api.post("/notify/{user}")
async def notify(user: str, text: str) -> None:
    await live.publish(f"notifications:{user}", Notification(text=text))
