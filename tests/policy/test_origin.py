"""Which pages may connect."""

from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freshet.policy.origin import Origins

SITE = "https://example.org"


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
    ],
)
def test_a_page_may_connect_or_not(origin: str | None, host: str | None, origins: list[str], may: bool) -> None:
    assert Origins(origins).allow(origin, host) is may


AUTHORITY = st.text(st.sampled_from("abc.-:@/`$\\#?%*[] \n\0é"), max_size=20)


@given(AUTHORITY)
def test_only_hosts_below_a_domain_pass_its_wildcard(authority: str) -> None:
    """As a browser reads an origin: what follows the scheme is a host, and a port perhaps."""
    origin = f"https://{authority}.example.org"
    if Origins(["https://*.example.org"]).allow(origin, "api.example"):
        assert urlsplit(origin).hostname == f"{authority}.example.org"
        assert urlsplit(origin).netloc == f"{authority}.example.org"


@given(AUTHORITY, AUTHORITY)
def test_one_entry_lets_one_origin_in(authority: str, other: str) -> None:
    entry = f"https://{authority}"
    may = Origins([entry]).allow(f"https://{other}", "api.example")
    if "*" not in authority and not entry.endswith("/"):
        assert may is (authority.lower() == other.lower())
