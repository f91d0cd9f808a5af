"""A state without a log that is read page by page is one state, whatever is changed between two pages."""

from typing import Any

import pytest

from freshet import Freshet, Refusal
from freshet.model.log import Position
from freshet.rooms import paging
from freshet.rooms.paging import Changes
from freshet.testing import Client
from tests.rooms.test_rooms import application


@pytest.fixture
def live() -> Freshet:
    live = application()
    live.state("typing:{id}", mode="ephemeral", ttl=60)
    return live


async def page(client: Client, place: dict[str, Any] | None = None, **options: Any) -> dict[str, Any]:
    """A page of two entries, behind the one that `place` came with."""
    later = {name: place.get(name, 0) for name in ("cursor", "epoch", "offset")} if place else {}
    request = {"channel": "typing:1", "type": 1, "phase": 2, "limit": 2, **later, **options}
    return (await client._ask("subscribe", request)) | ({"epoch": place["epoch"]} if place else {})


def keys(entries: list[dict[str, Any]]) -> dict[str, Any]:
    return {entry["key"]: entry.get("data") for entry in entries}


async def filled(live: Freshet, names: str) -> None:
    for name in names:
        await live.set_entry("typing:1", name, name, tags={"even": str(ord(name) % 2)})


async def test_it_comes_in_pages_as_large_as_the_client_asks(live: Freshet) -> None:
    async with live.test_client("alice") as alice:
        await filled(live, "abcde")
        first = await page(alice)
        second = await page(alice, first)
        third = await page(alice, second)
        assert [keys(each["state"]) for each in (first, second, third)] == [
            {"a": "a", "b": "b"},
            {"c": "c", "d": "d"},
            {"e": "e"},
        ]
        assert (first["phase"], second["phase"], third.get("phase", 0)) == (2, 2, 0)
        assert not third.get("recoverable")
        assert not third.get("publications")
        await live.set_entry("typing:1", "a", "new")
        assert (await alice.receive()).channel == "typing:1"


async def test_the_last_page_comes_with_what_was_changed_since_the_first(live: Freshet) -> None:
    async with live.test_client("alice") as alice:
        await filled(live, "abcd")
        first = await page(alice)
        await live.set_entry("typing:1", "a", "between")
        await live.set_entry("typing:1", "a", "again")
        await live.remove_entry("typing:1", "b")
        await live.set_entry("typing:1", "aa", "new")
        last = await page(alice, first)
        assert keys(last["state"]) == {"c": "c", "d": "d"}
        assert keys(last["publications"]) == {"a": "again", "b": None, "aa": "new"}
        await alice.expect_nothing()


async def test_what_a_filter_leaves_out_is_left_out_of_what_was_changed_too(live: Freshet) -> None:
    async with live.test_client("alice") as alice:
        await filled(live, "abcd")
        even = {"tf": {"key": "even", "cmp": "eq", "val": "0"}}
        first = await page(alice, **even)
        await live.remove_entry("typing:1", "a")
        await live.remove_entry("typing:1", "b")
        last = await page(alice, first, **even)
        assert (keys(first["state"]), keys(last["state"])) == ({"b": "b"}, {"d": "d"})
        assert keys(last["publications"]) == {"b": None}


async def test_a_page_of_another_activation_is_refused_so_that_the_client_begins_anew(live: Freshet) -> None:
    async with live.test_client("alice") as alice:
        await filled(live, "abcde")
        first = await page(alice)
        with pytest.raises(Refusal) as why:
            await page(alice, {**first, "epoch": "another"})
        assert why.value.code == 112
        assert len((await page(alice))["state"]) == 2


def test_each_key_is_known_once_by_its_last_change() -> None:
    changes = Changes()
    changes.note("a", None)
    place = changes.position
    changes.note("b", None)
    changes.note("a", {"x": "1"})
    changes.note("b", {"x": "2"})
    assert changes.since(place) == {"a": {"x": "1"}, "b": {"x": "2"}}
    assert changes.since(changes.position) == {}


def test_so_many_keys_are_remembered_and_who_is_behind_them_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paging, "MOST", 2)
    changes = Changes()
    before = changes.position
    changes.note("a", None)
    place = changes.position
    changes.note("b", None)
    assert list(changes.since(before)) == ["a", "b"]
    changes.note("c", None)
    assert list(changes.since(place)) == ["b", "c"]
    for unknown in (before, Position("another", 3)):
        with pytest.raises(Refusal) as why:
            changes.since(unknown)
        assert why.value.code == 112
