"""What a turn's fan-outs count for: added up once, when they are written. A fan-out itself notes what went where."""

from freshet.model.events import Delivery, Published
from freshet.model.frame import Frame
from freshet.model.log import Stamp
from freshet.observe.counts import Counts, add
from freshet.observe.histograms import SECONDS

FannedOut = tuple[str, int, list[Delivery], list[Frame], list[Frame]]
"""To one group: its label, how many subscribers it had, the events, and what each subscriber got of them: first as it
was encoded, then the same as it was joined."""


def count(counts: Counts, turn: list[FannedOut], now: float, node: str) -> None:
    """turn: all its fan-outs. now: epoch seconds, when they were written. node: the name of this one."""
    for label, number, events, each, frames in turn:
        if len(events) == 1 == len(each):  # as mostly; what is below comes to the same, and costs more
            counts.delivered[label] = counts.delivered.get(label, 0) + number
            counts.sent += number
            counts.sent_bytes += frames[0].size * number
            event = events[0]
            if type(event) is not Published or (stamp := event.publication.stamp) is None:
                continue
            seconds, histogram = now - stamp.at, counts.here if stamp.node == node else counts.elsewhere
            if 0.0 <= seconds <= SECONDS[0]:
                histogram.counts[0] += number
                histogram.sum += seconds * number
            else:
                histogram.observe_since(stamp.at, now, number)
            continue
        add(counts.delivered, label, len(each) * number)
        counts.sent += len(frames) * number
        counts.sent_bytes += sum([frame.size for frame in frames]) * number
        for stamp in _stamps(events, left_out=len(events) - len(each)):
            (counts.here if stamp.node == node else counts.elsewhere).observe_since(stamp.at, now, number)


def _stamps(events: list[Delivery], left_out: int) -> list[Stamp]:
    """Of the publications among them. left_out: by a filter: which ones does not matter within one turn."""
    publications = [event.publication for event in events if type(event) is Published]
    if left_out > 0:
        del publications[-left_out:]
    return [publication.stamp for publication in publications if publication.stamp is not None]
