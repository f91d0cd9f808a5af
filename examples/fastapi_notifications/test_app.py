"""Tests of the application, without a network: `python -m pytest`. See README.md."""

import os

os.environ.setdefault("FRESHET_SECRET", "a-secret-for-tests-of-32-characters")

import httpx
import pytest
from app import api, live

from freshet import Refusal


async def test_a_notification_reaches_its_user_alone() -> None:
    transport = httpx.ASGITransport(api)
    async with (
        live.test_client("alice") as alice,
        live.test_client("bob") as bob,
        httpx.AsyncClient(transport=transport, base_url="http://test") as http,
    ):
        await alice.subscribe("notifications:alice")
        await bob.subscribe("notifications:bob")
        await http.post("/notify/alice", params={"text": "your parcel has arrived"})
        assert (await alice.receive()).data["text"] == "your parcel has arrived"
        await bob.expect_nothing()


async def test_nobody_listens_to_those_of_another() -> None:
    async with live.test_client("bob") as bob:
        with pytest.raises(Refusal, match="another user's"):
            await bob.subscribe("notifications:alice")
