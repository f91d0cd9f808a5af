"""The page of who may open what is true, and says nothing that it should not."""

import pytest

from tests.endpoints.matrix import LATER, OPERATORS, PAGE, SIGNS, TOKENS, WAYS, by_origin, by_token, tables, with_tables

CLIENTS = [name for name in WAYS if name not in OPERATORS]
FOREIGN = [sign for sign in SIGNS if sign.startswith(("a foreign", "a look-alike", "`null`"))]
BY_ITSELF = [sign for sign in SIGNS if sign.startswith(("`same-site`", "`cross-site`", "a link", "an address"))]


async def test_the_page_of_who_may_open_what_is_current() -> None:
    page = PAGE.read_text()
    assert page == with_tables(page, await tables()), "run python -m tests.endpoints.matrix --write"


@pytest.mark.parametrize("name", CLIENTS)
async def test_a_foreign_page_opens_nothing_by_any_way_in(name: str) -> None:
    """Cross-site WebSocket hijacking, and the same over HTTP."""
    found = await by_origin(name)
    assert {found[sign] for sign in FOREIGN} == {"403"}


@pytest.mark.parametrize("name", [name for name in CLIENTS if WAYS[name].hooks])
async def test_no_page_that_is_not_listed_comes_in_with_cookies(name: str) -> None:
    found = await by_origin(name)
    assert found["any page, with `*`"] == found["its own page, without TLS"] == "yes, without cookies"
    expected = "yes, without cookies" if WAYS[name].method == "WEBSOCKET" else "403"
    assert {found[sign] for sign in BY_ITSELF} == {expected}


@pytest.mark.parametrize("name", [name for name in WAYS if name not in LATER])
async def test_nothing_but_a_valid_token_opens_anything(name: str) -> None:
    found = await by_token(name)
    assert [kind for kind in TOKENS if found[kind] == "yes"] == ["valid"]
