"""What the fan-outs of a turn count for."""

import pytest

from freshet.hub.counting import count
from freshet.model.events import Delivery, Joined, Published
from freshet.model.frame import Frame, batched
from freshet.model.log import ClientInfo, Publication, Stamp
from freshet.observe.counts import Counts

NOW = 1000.0


def published(at: float | None = NOW, node: str = "here") -> Delivery:
    return Published("a", Publication(b"1", stamp=Stamp(at, node) if at is not None else None))


def test_what_one_publication_counts_for_is_its_subscribers() -> None:
    counts, frames = Counts(), [Frame(b"12345")]
    count(counts, [("centrifuge", 3, [published(NOW - 0.0005)], frames, frames)], NOW, "here")
    assert (counts.delivered, counts.sent, counts.sent_bytes) == ({"centrifuge": 3}, 3, 15)
    assert (counts.here.read().count, counts.here.counts[0], counts.elsewhere.read().count) == (3, 3, 0)
    assert counts.here.sum == pytest.approx(0.0015)


@pytest.mark.parametrize(("at", "bucket"), [(NOW + 5, 0), (NOW, 0), (NOW - 0.002, 1), (NOW - 0.3, 8), (0.0, 12)])
def test_how_late_it_came_is_counted_by_the_stamp_of_whichever_node(at: float, bucket: int) -> None:
    counts, frame = Counts(), [Frame(b"1")]
    count(counts, [("a", 2, [published(at, "there")], frame, frame)], NOW, "here")
    assert counts.elsewhere.counts[bucket] == counts.elsewhere.read().count == 2
    assert counts.here.read().count == 0


def test_what_was_joined_counts_as_messages_once_and_as_deliveries_each() -> None:
    counts, each = Counts(), [Frame(b"1"), Frame(b"23"), Frame(b"4")]
    events = [published(), Joined("a", ClientInfo("u", "c")), published()]
    count(counts, [("a", 2, events, each, batched(each))], NOW, "here")
    assert (counts.delivered, counts.sent, counts.sent_bytes) == ({"a": 6}, 2, 8)
    assert counts.here.read().count == 4


def test_what_a_filter_leaves_out_was_delivered_to_nobody() -> None:
    counts, each = Counts(), [Frame(b"1")]
    count(counts, [("a", 2, [published(), published()], each, each), ("a", 1, [published()], [], [])], NOW, "here")
    assert (counts.delivered, counts.sent) == ({"a": 2}, 2)
    assert counts.here.read().count == 2


def test_what_has_no_stamp_is_counted_without_a_time() -> None:
    counts, frame = Counts(), [Frame(b"1")]
    count(counts, [("a", 2, [published(None)], frame, frame)], NOW, "here")
    assert counts.delivered == {"a": 2}
    assert counts.here.read().count == counts.elsewhere.read().count == 0
