"""Whether all parts of a node agree with one another, and with what its clients were told."""

from collections import Counter
from collections.abc import Sequence

from freshet.engines.memory import MemoryEngine
from freshet.node.node import Node
from freshet.session.session import Session
from tests.races.clients import RacingClient


def disagreements(
    node: Node, engine: MemoryEngine, clients: Sequence[RacingClient], *, failed: bool = False
) -> list[str]:
    """When all has come to rest. engine: where the node's channels are. failed: some of its calls were lost."""
    sessions = [session for each in clients if (session := each.session) is not None and not session.ended]
    return [
        *_at_rest(node),
        *_of_registry(node, sessions),
        *_of_hub(node, sessions),
        *_of_presence(node, engine, sessions),
        *_of_engine(node, engine, failed),
        *(fault for client in clients for fault in _of_client(client)),
    ]


def assert_agreement(
    node: Node, engine: MemoryEngine, clients: Sequence[RacingClient], *, failed: bool = False
) -> None:
    assert disagreements(node, engine, clients, failed=failed) == []


def _at_rest(node: Node) -> list[str]:
    found = []
    if len(node.tasks):
        found.append(f"tasks still run: {[task.get_name() for task in node.tasks._running]}")
    if len(node.invoking):
        found.append("hooks still run")
    if joining := [name for name, it in node.hub._channels.items() if it.joining]:
        found.append(f"somebody is between the phases of entering {joining}")
    on_their_way = [session for session in node.registry if session.reservations]
    return found + [f"{session!r} is about to enter {session.reservations}" for session in on_their_way]


def _of_registry(node: Node, sessions: list[Session]) -> list[str]:
    found = []
    registry = node.registry
    if (open_here := set(registry)) != set(sessions):
        found.append(f"registry: open {open_here}, clients have {sessions}")
    by_user = Counter(session for user in registry._by_user for session in registry.of(user))
    if by_user != Counter(session for session in sessions if session.connected and session.user):
        found.append(f"registry: by user {by_user}")
    if wrong := [user for user in registry._by_user if any(it.user != user for it in registry.of(user))]:
        found.append(f"registry: not of the user {wrong}")
    if lost := registry._connecting - set(sessions):
        found.append(f"registry: about to connect, and gone: {lost}")
    return found


def _of_hub(node: Node, sessions: list[Session]) -> list[str]:
    """Each session once in each of its channels, and nobody else."""
    there = Counter(
        (session, channel)
        for channel, subscribers in node.hub._channels.items()
        for group in subscribers.groups.values()
        for session in group.outboxes
    )
    wanted = Counter((session, channel) for session in sessions for channel in session.subscriptions)
    return [] if there == wanted else [f"hub has {there - wanted} too much, lacks {wanted - there}"]


def _of_presence(node: Node, engine: MemoryEngine, sessions: list[Session]) -> list[str]:
    found = []
    wanted = {
        (channel, session.id): session.client_info(subscription.info)
        for session in sessions
        for channel, subscription in session.subscriptions.items()
        if subscription.present
    }
    seen = {(channel, id): info for channel, clients in engine._presence.items() for id, info in clients.items()}
    if seen != wanted:
        found.append(f"presence: the engine has {sorted(seen)}, subscribed are {sorted(wanted)}")
    if set(node.presence._here) != set(wanted):
        found.append(f"presence: renewed are {sorted(node.presence._here)}, subscribed are {sorted(wanted)}")
    if node.presence._here and node.presence.slot < 0:
        found.append("presence: nobody is renewed")
    return found


def _of_engine(node: Node, engine: MemoryEngine, failed: bool) -> list[str]:
    """failed: it may deliver what nobody wants any more: that could not be called off, and is dropped."""
    wanted, delivers = set(node.hub._channels), engine._subscribed
    agree = wanted <= delivers if failed else wanted == delivers
    return [] if agree else [f"engine delivers {delivers}, the hub wants {wanted}"]


def _of_client(client: RacingClient) -> list[str]:
    """What it believes is so."""
    found = list(client.faults)
    session = client.session
    if not client.is_open:
        if not client.closed and not client.gone:
            found.append("the client was not told that it is over")
        return found
    assert session is not None
    if client.connected != session.connected:
        found.append(f"the client believes that it is connected: {client.connected}")
    actual = set(session.subscriptions)
    if client.sees_joins and client.known != actual:
        found.append(f"the client believes to be in {client.known}, and is in {actual}")
    if not client.known <= actual:
        found.append(f"the client believes to be in {client.known}, and is in {actual} alone")
    return found
