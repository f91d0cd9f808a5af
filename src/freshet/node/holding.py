"""What a node holds at this moment, read off its parts: for metrics, the API and the admin page."""

import os
import resource
from collections import Counter
from pathlib import Path
from typing import Protocol

from freshet.errors import Disconnect
from freshet.hub.hub import Hub
from freshet.node.pulse import Pulse
from freshet.node.registry import Registry
from freshet.observe.counts import Counts, Snapshot, Statistics, Way
from freshet.runtime.admission import Admission
from freshet.session.outbox import Turn

SLOW = Disconnect.slow().code


class Counted(Protocol):
    """The parts of a node that are looked at."""

    counts: Counts
    registry: Registry
    hub: Hub
    turn: Turn
    admission: Admission
    pulse: Pulse
    memory_before: int

    @property
    def state(self) -> str: ...

    def uptime(self) -> float: ...


def snapshot_of(node: Counted) -> Snapshot:
    """A walk over all clients."""
    subscriptions, clients = node.hub.channels(), Counter[Way]()
    outbox = largest = behind = 0
    for session in node.registry:
        if session.connected:
            clients[session.way] += 1
        if waiting := session.outbox.waiting:
            outbox, largest = outbox + waiting, max(largest, waiting)
            behind += waiting >= session.outbox.limit // 2
    used = resource.getrusage(resource.RUSAGE_SELF)
    return Snapshot(
        counts=node.counts,
        state=node.state,
        clients=dict(clients),
        users=node.registry.users,
        channels=len(subscriptions),
        subscriptions=sum(subscriptions.values()),
        turned_away=node.admission.refused,
        uptime=node.uptime(),
        outbox=outbox,
        outbox_largest=largest,
        behind=behind,
        dropped=node.turn.dropped,
        conflated=node.turn.conflated,
        engine_away=node.pulse.away,
        cpu=used.ru_utime + used.ru_stime,
        memory=resident(),
        memory_before=node.memory_before,
        open_files=_open_files(),
        most_files=_most_files(),
    )


def statistics_of(it: Snapshot) -> Statistics:
    counts = it.counts
    return Statistics(
        clients=sum(it.clients.values()),
        users=it.users,
        channels=it.channels,
        subscriptions=it.subscriptions,
        outbox=it.outbox,
        behind=it.behind,
        connected=sum(counts.connected.values()),
        returned=sum(counts.returned.values()),
        received=counts.received,
        received_bytes=counts.received_bytes,
        sent=counts.sent,
        sent_bytes=counts.sent_bytes,
        published=counts.published,
        refused=sum(counts.refusals.values()) + sum(counts.refused.values()),
        slow=counts.ended.get(SLOW, 0),
        dropped=it.dropped + it.conflated,
        latency=counts.here.read() + counts.elsewhere.read(),
        round_trip=counts.round_trips.read(),
        lag=counts.lag.read(),
    )


def resident() -> int:
    """Bytes; 0 where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def _open_files() -> int:
    folder = Path("/proc/self/fd")
    try:
        return folder.stat().st_size or sum(
            1 for _ in folder.iterdir()
        )  # Linux tells their number as a size, since 6.2
    except OSError:
        return 0


def _most_files() -> int:
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return 0 if most == resource.RLIM_INFINITY else most
