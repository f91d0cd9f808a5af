"""Which pages may connect."""

from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freshet.policy.origin import NAVIGATION, REFUSAL, Hosts, Judged, Origins

SITE = "https://example.org"


def allowed(origins: Origins, origin: str | None, host: str | None) -> bool:
    """Whether a page may connect."""
    given = {"origin": origin, "host": host}
    return not origins.judge("POST", {name: value for name, value in given.items() if value is not None}).refusal


@pytest.mark.parametrize(
    ("origin", "host", "origins", "may"),
    [
        (None, "example.org", [], True),
        ("https://example.org", "example.org", [], True),
        ("https://EXAMPLE.org", "example.org", [], True),
        ("http://127.0.0.1:8000", "127.0.0.1:8000", [], True),
        ("http://127.0.0.1:8001", "127.0.0.1:8000", [], False),
        ("https://evil.example", "example.org", [], False),
        ("null", "example.org", [], False),
        ("", "example.org", [], False),
        ("https://example.org", None, [], False),
        ("https://example.org", "api.example", [SITE], True),
        ("https://example.org", "api.example", [SITE + "/"], True),
        ("http://example.org", "api.example", [SITE], False),
        ("https://example.org:8443", "api.example", [SITE], False),
        ("https://example.org.evil.example", "api.example", [SITE], False),
        ("https://evilexample.org", "api.example", ["https://*.example.org"], False),
        ("https://a.example.org", "api.example", ["https://*.example.org"], True),
        ("https://a.b.example.org", "api.example", ["https://*.example.org"], True),
        ("https://example.org", "api.example", ["https://*.example.org"], False),
        ("https://evil.example/.example.org", "api.example", ["https://*.example.org"], False),
        ("https://evil.example`.example.org", "api.example", ["https://*.example.org"], False),
        ("https://evil.example$.example.org", "api.example", ["https://*.example.org"], False),
        ("https://user@.example.org", "api.example", ["https://*.example.org"], False),
        ("https://anything.example", "api.example", ["*"], True),
        ("null", "api.example", [SITE], False),
        ("null", "null", [], False),
        ("null", "api.example", ["null"], False),
        ("null", "api.example", ["*"], True),
        ("://example.org", "example.org", [], False),
        ("file://", "", [], False),
        ("file://example.org", "example.org", [], False),
        ("chrome-extension://example.org", "example.org", [], False),
        ("https://example.org", "example.org.evil.example", [], False),
        ("https://example.org@evil.example", "example.org", [], False),
        ("https://example.org#.evil.example", "example.org", [], False),
        ("https://[::1]:8000", "[::1]:8000", [], True),
        ("https://example.org", "api.example", ["https://other.example", SITE], True),
        ("https://example.org ", "api.example", [SITE], False),
        ("https://example.org/", "api.example", [SITE], False),
        ("https://example.orgx", "api.example", [SITE], False),
        ("https://exampleXorg", "api.example", [SITE], False),
        ("http://a.example.org", "api.example", ["https://*.example.org"], False),
        ("https://a.example.org:8443", "api.example", ["https://*.example.org"], False),
        ("https://a.example.org:8443", "api.example", ["https://*.example.org:8443"], True),
        ("https://evil.example#.example.org", "api.example", ["https://*.example.org"], False),
        ("https://evil.example\\.example.org", "api.example", ["https://*.example.org"], False),
        ("https://evil.example?.example.org", "api.example", ["https://*.example.org"], False),
        ("https://evil.example%.example.org", "api.example", ["https://*.example.org"], False),
        ("https://evil.example:80.example.org", "api.example", ["https://*.example.org"], False),
        ("https://evil.example\n.example.org", "api.example", ["https://*.example.org"], False),
        ("https://evil.example\0.example.org", "api.example", ["https://*.example.org"], False),
        ("https://evíl.example.org", "api.example", ["https://*.example.org"], False),
        ("https://.example.org", "api.example", ["https://*.example.org"], False),
        ("https://a.example.org", "api.example", ["*.example.org"], False),
        ("https://evil.example", "api.example", ["https://*"], False),
        ("https://evil.example", "api.example", [""], False),
        ("https://example.org", "example.org:443", [], True),
        ("http://example.org", "example.org:80", [], True),
        ("https://example.org:443", "example.org", [], True),
        ("https://example.org", "example.org:80", [], False),
        ("http://example.org", "example.org:443", [], False),
        ("https://example.org", "example.org:8443", [], False),
        ("http://[::1]", "[::1]:80", [], True),
        ("https://example.org", "api.example", ["https://example.org:443/"], True),
        ("https://a.example.org", "api.example", ["https://*.example.org:443"], True),
        ("https://example.org:80", "api.example", ["https://example.org"], False),
    ],
)
def test_a_page_may_connect_or_not(origin: str | None, host: str | None, origins: list[str], may: bool) -> None:
    assert allowed(Origins(origins), origin, host) is may


AUTHORITY = st.text(st.sampled_from("abc.-:@/`$\\#?%*[] \n\0é"), max_size=20)


@given(AUTHORITY)
def test_only_hosts_below_a_domain_pass_its_wildcard(authority: str) -> None:
    """As a browser reads an origin: what follows the scheme is a host, and a port perhaps."""
    origin = f"https://{authority}.example.org"
    if allowed(Origins(["https://*.example.org"]), origin, "api.example"):
        assert urlsplit(origin).hostname == f"{authority}.example.org"
        assert urlsplit(origin).netloc == f"{authority}.example.org"


@given(AUTHORITY, AUTHORITY)
def test_one_entry_lets_one_origin_in(authority: str, other: str) -> None:
    entry = f"https://{authority}"
    may = allowed(Origins([entry]), f"https://{other}", "api.example")
    if "*" not in authority and not entry.endswith("/"):
        assert may is (authority.lower() == other.lower())


# -------------------------------------------------------------------------------------- what browsers say of themselves

OWN, HOST = "https://example.org", "example.org"
OPEN, WITHOUT_COOKIES = Judged(), Judged(ambient=False)


@pytest.mark.parametrize(
    ("method", "headers", "expected"),
    [
        pytest.param("WEBSOCKET", {"origin": OWN}, OPEN, id="a socket of the own page"),
        pytest.param(
            "WEBSOCKET",
            {"origin": OWN, "sec-fetch-site": "same-origin", "sec-fetch-mode": "websocket"},
            OPEN,
            id="the same of Firefox",
        ),
        pytest.param("WEBSOCKET", {"origin": "https://evil.example"}, Judged(REFUSAL), id="a socket of a foreign page"),
        pytest.param("WEBSOCKET", {}, WITHOUT_COOKIES, id="a socket of no browser"),
        pytest.param("GET", {}, OPEN, id="curl, or an EventSource of the own page over plain http"),
        pytest.param("GET", {"sec-fetch-site": "same-origin", "sec-fetch-mode": "cors"}, OPEN, id="an own EventSource"),
        pytest.param("GET", {"origin": "https://evil.example"}, Judged(REFUSAL), id="a foreign EventSource"),
        pytest.param(
            "GET", {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}, Judged(REFUSAL), id="a foreign image"
        ),
        pytest.param(
            "GET", {"sec-fetch-site": "same-site", "sec-fetch-mode": "no-cors"}, Judged(REFUSAL), id="a sister's image"
        ),
        pytest.param(
            "GET",
            {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"},
            Judged(NAVIGATION),
            id="a foreign link or frame",
        ),
        pytest.param(
            "GET", {"sec-fetch-site": "none", "sec-fetch-mode": "navigate"}, Judged(NAVIGATION), id="a typed address"
        ),
        pytest.param("POST", {"origin": OWN, "sec-fetch-site": "same-origin"}, OPEN, id="a POST of the own page"),
        pytest.param("POST", {"sec-fetch-site": "same-origin"}, OPEN, id="a POST that says same-origin"),
        pytest.param("POST", {"origin": "null"}, Judged(REFUSAL), id="a POST of a sandbox"),
        pytest.param("POST", {"origin": "https://evil.example"}, Judged(REFUSAL), id="a foreign form"),
        pytest.param("POST", {}, WITHOUT_COOKIES, id="a POST of no browser"),
    ],
)
def test_cookies_count_only_where_it_is_sure_whose_page_it_is(
    method: str, headers: dict[str, str], expected: Judged
) -> None:
    assert Origins([]).judge(method, {"host": HOST, **headers}) == expected


def test_where_all_origins_may_connect_a_strangers_page_has_no_cookies_and_a_listed_one_has() -> None:
    origins = Origins(["*", OWN])
    assert origins.judge("WEBSOCKET", {"host": "api.example", "origin": OWN}) == OPEN
    assert origins.judge("WEBSOCKET", {"host": "api.example", "origin": "https://a.example"}) == Judged(
        ambient=False, shared=True
    )


@pytest.mark.parametrize(
    ("origin", "host", "may"),
    [
        ("http://localhost:5173", "127.0.0.1:8000", True),
        ("http://127.0.0.1:5173", "localhost:8000", True),
        ("http://[::1]:5173", "[::1]:8000", True),
        ("http://app.localhost:5173", "localhost:8000", True),
        ("https://evil.example", "localhost:8000", False),
        ("http://localhost:5173", "evil.example:8000", False),
        ("http://localhost.evil.example", "localhost:8000", False),
        ("http://127.0.0.1.evil.example", "localhost:8000", False),
        ("http://192.168.1.7:5173", "localhost:8000", False),
        ("null", "localhost:8000", False),
        ("file://", "localhost:8000", False),
    ],
)
def test_in_dev_pages_of_this_machine_may_connect_from_any_port(origin: str, host: str, may: bool) -> None:
    assert allowed(Origins([], dev=True), origin, host) is may
    assert allowed(Origins(["https://example.org"], dev=True), origin, host) is may
    assert not allowed(Origins([]), origin, host)


# ---------------------------------------------------------------------------------------------------------------- hosts


@pytest.mark.parametrize(
    ("host", "hosts", "dev", "may"),
    [
        ("evil.example", [], False, True),
        ("evil.example:8000", [], True, False),
        ("localhost:8000", [], True, True),
        ("LOCALHOST", [], True, True),
        ("127.0.0.1:8000", [], True, True),
        ("192.168.1.7:8000", [], True, True),
        ("[::1]:8000", [], True, True),
        ("[::1]", [], True, True),
        ("freshet:8000", [], True, True),
        ("box.local", [], True, True),
        ("app.localhost:8000", [], True, True),
        ("localhost.evil.example", [], True, False),
        ("127.0.0.1.evil.example", [], True, False),
        ("evil.example.", [], True, False),
        ("evil.example:80:80", [], True, False),
        ("", [], True, False),
        (":8000", [], True, False),
        ("localhost:x", [], True, False),
        (None, [], True, True),
        ("tunnel.example", ["tunnel.example"], True, True),
        ("localhost", ["tunnel.example"], True, False),
        ("example.org:443", ["example.org"], False, True),
        ("EXAMPLE.org", ["Example.org"], False, True),
        ("a.example.org", ["example.org"], False, False),
        ("a.example.org", ["*.example.org"], False, True),
        ("example.org", ["*.example.org"], False, False),
        ("evilexample.org", ["*.example.org"], False, False),
        ("anything.example", ["*"], True, True),
    ],
)
def test_a_server_answers_to_its_names_alone(host: str | None, hosts: list[str], dev: bool, may: bool) -> None:
    assert Hosts(hosts, dev=dev).allow(host) is may
