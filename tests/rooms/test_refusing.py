"""What an operator reads of a room that refuses: it is the application's affair, whose hook said so."""

import logging

import pytest

from freshet import Refusal, Room
from tests.rooms.test_rooms import application


def refuse() -> None:
    raise Refusal.unknown_channel("no such lot")


REFUSING = {
    "on_start": lambda self: refuse(),
    "on_join": lambda self, session: refuse(),
    "on_message": lambda self, session, data: refuse(),
}


@pytest.mark.parametrize("hook", REFUSING)
async def test_what_a_room_refuses_is_no_warning_and_names_no_option(
    hook: str, caplog: pytest.LogCaptureFixture
) -> None:
    live = application()
    live.room("auction:{lot}")(type("Lots", (Room,), {hook: REFUSING[hook]}))
    caplog.set_level(logging.INFO, "freshet.commands")
    async with live.test_client("alice") as alice:
        if hook == "on_message":
            await alice.subscribe("auction:1")
        asked = alice.rpc("auction:1", 1) if hook == "on_message" else alice.subscribe("auction:1")
        with pytest.raises(Refusal, match="no such lot"):
            await asked
    said = [(it.levelname, it.getMessage()) for it in caplog.records if "refused" in it.getMessage()]
    assert [level for level, _ in said] == ["INFO"], said
    assert said[0][1].endswith(" was refused: no such lot")
