"""States against a model: whatever is changed, expires, sleeps, is cut and is lost, all see what the model holds."""

import asyncio
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from freshet import MISSING, Freshet, History
from freshet.endpoints.in_process import Client, settle
from freshet.testing import ManualClock
from tests.rooms.test_rooms import application

KEYS = st.sampled_from(["a", "b", "ключ", "0"])
VALUES = st.one_of(st.none(), st.integers(-3, 3), st.text(max_size=3), st.lists(st.booleans(), max_size=2))
IDLE = 10.0


class Seen:
    """A client, and the map that it makes of what it gets."""

    def __init__(self, live: Freshet, channel: str) -> None:
        self.client: Client = live.test_client()
        self.channel = channel
        self.map: dict[str, Any] = {}
        self.inside = True

    def take(self) -> None:
        """All that came, without waiting."""
        while self.client._publications:
            data = self.client._publications.popleft().data
            if "state" in data:
                self.map = data["state"]
            elif data.get("removed"):
                self.map.pop(data["key"], None)
            else:
                self.map[data["key"]] = data["value"]


class StateMachine(RuleBasedStateMachine):
    """model: the values, and until when each is there."""

    @initialize(mode=st.sampled_from(["persistent", "recoverable", "ephemeral"]), size=st.sampled_from([2, 100]))
    def begin(self, mode: str, size: int) -> None:
        self.loop = asyncio.new_event_loop()
        self.run = self.loop.run_until_complete
        self.clock = ManualClock()
        self.live = application(self.clock, idle=IDLE)
        self.ttl = 0 if mode == "persistent" else 25
        history = {} if mode == "ephemeral" else {"history": History(size=size, ttl=60)}
        self.live.state("s:{name}", mode=mode, ttl=self.ttl, publish="client", **history)
        self.model: dict[str, tuple[Any, float]] = {}
        self.seen = [Seen(self.live, "s:x") for _ in range(2)]
        for each in self.seen:
            self.run(each.client.__aenter__())
            self.run(each.client.subscribe("s:x"))

    def teardown(self) -> None:
        if hasattr(self, "loop"):
            for each in self.seen:
                self.run(each.client.__aexit__(None, None, None))
            self.loop.close()

    def put(self, key: str, value: Any, ttl: float | None) -> None:
        seconds = self.ttl if ttl is None else ttl
        self.model[key] = (value, self.clock.now + seconds if seconds else float("inf"))

    @rule(key=KEYS, value=VALUES, ttl=st.sampled_from([None, None, 3, 40]), by_client=st.booleans())
    def set(self, key: str, value: Any, ttl: float | None, by_client: bool) -> None:
        if by_client and self.seen[0].inside:
            change = {"key": key, "value": value} | ({"ttl": ttl} if ttl is not None else {})
            self.run(self.seen[0].client.publish("s:x", change))
        else:
            assert self.run(self.live.set_entry("s:x", key, value, ttl=ttl))
        self.put(key, value, ttl)

    @rule(key=KEYS, value=VALUES, expected=st.one_of(VALUES, st.just(MISSING)))
    def compare_and_set(self, key: str, value: Any, expected: Any) -> None:
        is_so = self.model[key][0] == expected if key in self.model else expected is MISSING
        assert self.run(self.live.set_entry("s:x", key, value, expect=expected)) is is_so
        if is_so:
            self.put(key, value, None)

    @rule(number=st.integers(-5, 5))
    def add(self, number: int) -> None:
        total = self.model.get("count", (0, 0))[0] + number
        assert self.run(self.live.add_to_entry("s:x", "count", number)) == total
        self.put("count", total, None)

    @rule(key=KEYS)
    def remove(self, key: str) -> None:
        assert self.run(self.live.remove_entry("s:x", key)) is (key in self.model)
        self.model.pop(key, None)

    @rule(seconds=st.sampled_from([1, 4, 14]))
    def pass_time(self, seconds: float) -> None:
        """Entries expire meanwhile, and the room falls asleep."""
        for _ in range(int(seconds * 4)):
            self.run(self.clock.advance(0.25))
        self.model = {key: it for key, it in self.model.items() if it[1] > self.clock.now}

    @rule()
    def lose_the_owner(self) -> None:
        """As if its node had died."""
        self.live._rooms._leases.lose("s:x")
        self.live._node.engine._leases.clear()  # type: ignore[attr-defined]

    @rule(which=st.integers(0, 1))
    def cut(self, which: int) -> None:
        if self.seen[which].inside:
            self.run(self.seen[which].client.disconnect())
        else:
            self.run(self.seen[which].client.connect())
        self.seen[which].inside ^= True

    @invariant()
    def all_see_what_the_model_holds(self) -> None:
        if not hasattr(self, "loop"):
            return
        self.run(self.clock.advance(0.001))
        self.run(settle())
        values = {key: value for key, (value, _) in self.model.items()}
        assert self.run(self.live.entries("s:x")) == values
        for each in self.seen:
            if each.inside:
                each.take()
                assert each.map == values


TestState = StateMachine.TestCase
TestState.settings = settings(max_examples=60, stateful_step_count=25)
