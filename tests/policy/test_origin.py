"""Which pages may connect."""

import pytest

from freshet.policy.origin import allowed

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
    ],
)
def test_a_page_may_connect_or_not(origin: str | None, host: str | None, origins: list[str], may: bool) -> None:
    assert allowed(origin, host, origins) is may
