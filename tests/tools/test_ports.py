"""Ports: no two test processes are given the same one, whatever their workers are called."""

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.tools import ports
from tests.tools.need import ROOT
from tests.tools.ports import HOST, PortBlock, free_port, preferred_block

TAKE = "import sys; from tests.tools.ports import free_port; print(free_port(), flush=True); sys.stdin.read()"


@pytest.fixture
def block() -> Iterator[PortBlock]:
    block = PortBlock()
    yield block
    block.close()


def test_processes_whose_workers_have_the_same_name_are_given_different_ports() -> None:
    """As in two checkouts whose tests run at the same time."""
    env = {**os.environ, "PYTEST_XDIST_WORKER": "gw0"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", TAKE], cwd=ROOT, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    try:
        given = [int(process.stdout.readline()) for process in processes if process.stdout]
    finally:
        for process in processes:
            process.communicate()
    blocks = {(port - ports.FIRST) // ports.SIZE for port in given}
    assert len(blocks) == len(processes)


def test_a_port_is_below_those_that_the_kernel_gives_to_connections() -> None:
    with socket.create_server((HOST, 0)) as server:
        assert ports.FIRST < free_port() < ports.END <= server.getsockname()[1]


def test_a_port_that_a_server_has_is_not_given(block: PortBlock) -> None:
    taken = block.take() + 1
    with socket.create_server((HOST, taken)):
        assert block.take() > taken  # the next, unless another process of this machine has it


def test_a_port_is_not_given_again_before_all_others_were(block: PortBlock) -> None:
    given = [block.take() for _ in range(100)]
    assert len(set(given)) == len(given)
    assert set(given) <= set(block.ports)


def test_a_block_without_a_free_port_says_so(block: PortBlock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "_bound", lambda port: None)
    with pytest.raises(RuntimeError, match=f"every port from {block.ports[0]} to {block.ports[-1]} is in use"):
        block.take()
    with pytest.raises(RuntimeError, match=re.escape(f"have leased all {(ports.END - ports.FIRST) // ports.SIZE}")):
        PortBlock()


def test_a_block_that_was_given_back_can_be_leased_again() -> None:
    first = PortBlock(7)
    second = PortBlock(7)
    assert second.ports != first.ports
    first.close()
    third = PortBlock(7)
    assert third.ports == first.ports
    second.close()
    third.close()


@pytest.mark.parametrize(("worker", "preferred"), [("", 0), ("gw0", 1), ("gw11", 12), ("master", 0)])
def test_each_worker_prefers_a_block_of_its_own(worker: str, preferred: int) -> None:
    assert preferred_block(worker) == preferred
