"""The request that opened a session: which cookie it has."""

import pytest

from freshet.model.frame import Handshake


@pytest.mark.parametrize(
    ("sent", "value"),
    [
        ("sid=1", "1"),
        ("other=2; sid=1; sid=3", "1"),
        (' ;;\t sid="1" ; x', "1"),
        ("sid=a=b", "a=b"),
        ("sid=", ""),
        ("xsid=2; sidx=3; s.d=4; x=sid=5", ""),
        ("sid =2", ""),
        ("sid", ""),
        ("SID=2", ""),
        ("", ""),
    ],
)
def test_a_cookie_is_found_by_its_very_name_and_the_first_of_that(sent: str, value: str) -> None:
    assert Handshake("/", headers={"cookie": sent}).cookie("sid") == value


def test_a_name_of_a_cookie_is_no_pattern() -> None:
    request = Handshake("/", headers={"cookie": "sxd=1; __Host-s.d=2; s.d=3"})
    assert (request.cookie("s.d"), request.cookie("__Host-s.d"), request.cookie(".*")) == ("3", "2", "")
