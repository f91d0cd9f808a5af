"""A node in a network namespace of its own, and a partition between it and the broker that neither is notified of.

`run` makes two namespaces, in one of which a command is run: there are the broker, the other node and the clients. Two
links lead to the other, one for clients and one for the broker. All addresses are loopback addresses, on devices that
lead nowhere else. A partition is a wrong hardware address: what is sent arrives at nobody, without an error. Instead of
the link to the broker there may be two, whose inner ends a `Wire` has to join. It takes root, and Linux.
"""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

NODE = "127.9.1.2"  # where clients reach the node
BROKER_SIDE, NODE_SIDE = "127.9.2.1", "127.9.2.2"  # where the broker is, and from where the node connects to it
WIRE = ("wire0", "wire1")  # devices: the inner ends of what leads to the broker and to the node
NOBODY = "02:00:00:00:00:01"
NAMES = "FRESHET_TEST_NAMESPACES"  # in the environment, when this runs in one: ours and the node's


def is_inside() -> bool:
    return NAMES in os.environ


def can_be_made() -> bool:
    """Whether this process may make namespaces."""
    name = f"freshet{os.getpid()}"
    made = os.geteuid() == 0 and _ip("netns", "add", name, check=False).returncode == 0
    if made:
        _ip("netns", "del", name)
    return made


def run(*arguments: str, wired: bool = False) -> str:
    """What `python ARGUMENTS` prints in the first of two namespaces.

    Raises RuntimeError with all its output if it fails.
    """
    with namespaces(wired=wired) as names:
        command = ["ip", "netns", "exec", names[0], sys.executable, *arguments]
        env = {**os.environ, NAMES: " ".join(names)}
        done = subprocess.run(command, env=env, check=False, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{done.stdout}\n{done.stderr}")
    return done.stdout


@contextmanager
def namespaces(*, wired: bool = False) -> Iterator[tuple[str, str]]:
    """The names of two, which can reach each other and nothing else. wired: by a wire that is in the first."""
    ours, node = (f"freshet{os.getpid()}{letter}" for letter in "ab")
    try:
        for name in (ours, node):
            _ip("netns", "add", name)
            _inside(name, "sysctl", "-qw", "net.ipv4.conf.all.route_localnet=1")
            _ip("-n", name, "address", "add", "127.0.0.1/24", "dev", "lo")
            _ip("-n", name, "link", "set", "lo", "up")
            _ip("-n", name, "address", "del", "127.0.0.1/8", "dev", "lo", check=False)
        for link, (near, far) in enumerate((("127.9.1.1", NODE), (BROKER_SIDE, NODE_SIDE))):
            device = f"link{link}"
            if wired and near == BROKER_SIDE:
                for name, inner in ((ours, WIRE[0]), (node, WIRE[1])):
                    _ip("link", "add", device, "netns", name, "type", "veth", "peer", "name", inner, "netns", ours)
                    _ip("-n", ours, "link", "set", inner, "up")
            else:
                _ip("link", "add", device, "netns", ours, "type", "veth", "peer", "name", device, "netns", node)
            for name, address in ((ours, near), (node, far)):
                _ip("-n", name, "address", "add", f"{address}/24", "dev", device)
                _ip("-n", name, "link", "set", device, "up")
        yield ours, node
    finally:
        for name in (ours, node):
            _ip("netns", "del", name, check=False)


def node_prefix() -> Sequence[str]:
    """What runs a command in the namespace of the node."""
    return ["ip", "netns", "exec", os.environ[NAMES].split()[1]]


def part(*, apart: bool) -> None:
    """The node and the broker."""
    ours, node = os.environ[NAMES].split()
    for name, address in ((ours, NODE_SIDE), (node, BROKER_SIDE)):
        if apart:  # replaced in one step: an entry that was deleted is learned again by what is sent meanwhile
            _ip("-n", name, "neighbour", "replace", address, "lladdr", NOBODY, "dev", "link1", "nud", "permanent")
        else:
            _ip("-n", name, "neighbour", "del", address, "dev", "link1", check=False)


def _ip(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["ip", *arguments], check=check, capture_output=True)


def _inside(name: str, *command: str) -> None:
    subprocess.run(["ip", "netns", "exec", name, *command], check=True, capture_output=True)
