"""What follows from a stream's record, without a server."""

from contextlib import suppress
from urllib.parse import urlencode

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from freshet.endpoints.durable.record import (
    PRODUCERS,
    BadRequest,
    StreamProducer,
    StreamRecord,
    Verdict,
    Writers,
    judge,
)
from freshet.endpoints.durable.wire import LONGEST, config_of, content_type, cursor_at, reading, write_of
from freshet.model.log import Publication

STREAM = StreamRecord("epoch", 10, [("source", 3), ("own", -1)])


def test_a_fork_has_the_tokens_of_its_source_as_far_as_both_are_the_same() -> None:
    source = StreamRecord("other", 0, [("source", -1)])
    assert STREAM.token(3) == source.token(3)
    assert STREAM.token(4) != source.token(4)
    assert STREAM.position(source.token(3)) == 3
    assert STREAM.position(source.token(4)) is None


def test_tokens_are_ordered_as_texts_and_hold_nothing_that_a_query_cannot() -> None:
    tokens = [STREAM.token(position) for position in (0, 3, 4, 9, 10, 99, 100_000)]
    assert tokens == sorted(tokens)
    assert not any(character in "".join(tokens) for character in ",&=?/")


@pytest.mark.parametrize("token", ["", "12", "x" * 16 + "_own", "0000000000000001", "0000000000000001_", "-1"])
def test_what_is_no_token_is_refused(token: str) -> None:
    with pytest.raises(BadRequest, match="offset"):
        STREAM.position(token)


@pytest.mark.parametrize("tag", ["", "1", "1.2.3", "1.2.3.", "a.b.c.d", "-1.2.3.id", f"{'9' * 5000}.0.0.id"])
def test_a_tag_that_no_producer_wrote_is_nobodys(tag: str) -> None:
    writers = Writers()
    writers.read([Publication(b"1", 1, tags={"stream_producer": tag}), Publication(b"2", 2)])
    assert (writers.at, writers.producers) == (2, {})


def test_a_producers_tag_is_read_as_it_was_written() -> None:
    for id in ("id", "a.b", "line\nend"):
        assert StreamProducer.of(StreamProducer(id, 2, 3, 4).tag) == (id, 2, 3, 4)


def test_a_closed_stream_ends_where_it_was_closed_whatever_is_published_in_its_channel_later() -> None:
    assert STREAM.length(15) == 5
    assert StreamRecord("epoch", 10, [("own", -1)], final=2).length(15) == 2


@pytest.mark.parametrize(
    ("known", "asked", "verdict"),
    [
        (None, (0, 0), Verdict(0)),
        (None, (0, 1), Verdict(409, {"Producer-Expected-Seq": "0", "Producer-Received-Seq": "1"})),
        ((1, 4, 0), (0, 5), Verdict(403, {"Producer-Epoch": "1"})),
        ((1, 4, 0), (1, 4), Verdict(204, {"Producer-Epoch": "1", "Producer-Seq": "4"})),
        ((1, 4, 0), (1, 1), Verdict(204, {"Producer-Epoch": "1", "Producer-Seq": "4"})),
        ((1, 4, 0), (1, 5), Verdict(0)),
        ((1, 4, 0), (1, 6), Verdict(409, {"Producer-Expected-Seq": "5", "Producer-Received-Seq": "6"})),
        ((1, 4, 0), (2, 0), Verdict(0)),
        ((1, 4, 2), (1, 4), Verdict(0, skip=1)),  # a crash left two of its three messages unwritten
        ((1, 4, 2), (1, 5), Verdict(409, {"Producer-Expected-Seq": "4", "Producer-Received-Seq": "5"})),
    ],
)
def test_a_request_of_a_producer_is_new_or_known_or_out_of_order(
    known: tuple[int, int, int] | None, asked: tuple[int, int], verdict: Verdict
) -> None:
    assert judge(known, StreamProducer("p", *asked), 3) == verdict


def test_a_new_epoch_begins_at_0() -> None:
    with pytest.raises(BadRequest, match="begins at 0"):
        judge((1, 4, 0), StreamProducer("p", 2, 1), 1)


def test_what_producers_wrote_is_found_in_the_log_again() -> None:
    tags = [StreamProducer("a.b", 1, 7, 2).tag, StreamProducer("c", 0, 0).tag]
    writers = Writers()
    writers.read(
        [
            Publication(b"1", 1, tags={"stream_producer": tags[0]}),
            Publication(b"2", 2, tags={"stream_producer": tags[1], "stream_seq": "09"}),
            Publication(b"3", 3),
        ]
    )
    assert writers == Writers(3, {"a.b": (1, 7, 2), "c": (0, 0, 0)}, "09")


def test_only_so_many_producers_are_remembered_those_that_wrote_last() -> None:
    writers = Writers()
    for number in range(PRODUCERS + 1):
        writers.note(StreamProducer(str(number), 0, 0))
    assert len(writers.producers) == PRODUCERS
    assert "0" not in writers.producers


@pytest.mark.parametrize(
    "query", [b"offset=", b"offset=-1&offset=now", b"live=sse", b"live=long-poll", b"live=push&offset=-1"]
)
def test_a_query_that_cannot_be_is_refused(query: bytes) -> None:
    with pytest.raises(BadRequest):
        reading(query)


def test_a_cursor_never_goes_back() -> None:
    now = 1_800_000_000
    first = cursor_at(now)
    assert cursor_at(now + 20) == first + 1
    assert cursor_at(now, first - 1) == first
    assert cursor_at(now, first) > first
    assert cursor_at(now, first + 5000) > first + 5000


# --------------------------------------------------------------------------------------------- what a stranger may send


@pytest.mark.parametrize(
    "text",
    ["/" * 100, "a/b/" * 50, "a/b" + ";" * 200 + "\x85", "a/b" + " " * 200 + "x", "a b/c", "a/b c", "a/b\n", "\xe9/a"],
)
def test_what_is_no_media_type_is_refused_at_once(text: str) -> None:
    with pytest.raises(BadRequest, match="media type"):
        content_type({"content-type": text + "\x00"})


@pytest.mark.parametrize(
    "text", ["application/json", "Text/Plain; charset=utf-8", "application/vnd.a+json ; b=c;d", "x/y;"]
)
def test_a_media_type_may_have_parameters(text: str) -> None:
    assert content_type({"content-type": text}) == text.lower()


@pytest.mark.parametrize("name", ["content-type", "producer-id", "stream-seq"])
def test_what_is_kept_of_a_writer_is_bounded(name: str) -> None:
    headers = {"content-type": "a/b", "producer-id": "p", "producer-epoch": "0", "producer-seq": "0", "stream-seq": "1"}
    for size, fits in ((LONGEST, True), (LONGEST + 1, False)):
        named = {**headers, name: "a/".ljust(size, "b")}
        if fits:
            write_of(named, b"1", content_type(named))
            continue
        with pytest.raises(BadRequest, match=f"at most {LONGEST}"):
            write_of(named, b"1", content_type(named))


NAMES = ["content-type", "stream-ttl", "stream-expires-at", "stream-closed", "stream-forked-from", "stream-fork-offset"]
NAMES += ["stream-fork-sub-offset", "stream-seq", "producer-id", "producer-epoch", "producer-seq"]
ODD = ["", "-1", "now", "0", "9" * 5000, "\u0661", "\xb2", "1e9", "nan", "true", "a/b", "application/json"]
ODD += ["/v1/stream/", "/v1/stream/%00", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"]
ODD += ["2030-02-30T00:00:00Z", "0" * 16 + "_"]
odd = st.text(max_size=40) | st.sampled_from(ODD)


@given(
    st.dictionaries(st.sampled_from(["offset", "live", "cursor"]), odd), st.dictionaries(st.sampled_from(NAMES), odd)
)
@example({"cursor": "9" * 5000}, {})
@example({"offset": "-1", "live": "sse", "cursor": "9" * 17}, {})
def test_whatever_a_request_says_is_read_or_refused(query: dict[str, str], headers: dict[str, str]) -> None:
    with suppress(BadRequest):
        STREAM.position(reading(urlencode(query).encode()).offset)
    with suppress(BadRequest):
        config_of(headers)
    for body in (b"", b"1", b"[1,", b"[" * 5000, b"\xff"):
        with suppress(BadRequest):
            write_of(headers, body, content_type(headers))
