"""An event is one event to any client that reads event streams as the HTML standard says, whatever is in it."""

from hypothesis import example, given
from hypothesis import strategies as st

from freshet.dialects.event_stream import stream_event
from freshet.model.json_text import one_line
from tests.tools.event_streams import events_of
from tests.tools.json_texts import json_texts

lines = st.text(
    st.characters(exclude_categories=["Cs"]) | st.sampled_from("\r\n\u2028\u2029\x85\x0b\x0c\x1c\ufeff: \0")
)


@given(data=lines, id=lines, name=lines)
@example(data="a\rb", id="", name="")
@example(data="\r\n\r\n", id="1", name="price")
@example(data="data: \r\rid: 7\n\nevent: x", id="", name="")
def test_whatever_is_in_it_one_event_is_one_event(data: str, id: str, name: str) -> None:
    [event, last] = events_of(stream_event(data.encode(), id, name) + b"data: last\n\n")
    assert event.data == data.replace("\r\n", "\n").replace("\r", "\n")
    assert event.id in (id, "")
    assert event.name in (name, "message")
    assert last.data == "last"


@given(text=json_texts)
def test_json_is_the_same_json_behind_it(text: bytes) -> None:
    [event] = events_of(stream_event(text))
    assert one_line(event.data.encode()).replace(b" ", b"") == one_line(text).replace(b" ", b"")


def test_an_id_or_a_name_of_several_lines_is_left_out() -> None:
    assert stream_event(b"1", "a\nb", "c\rd") == b"data: 1\n\n"
    assert stream_event(b"1", "a\0", "c") == b"event: c\ndata: 1\n\n"
