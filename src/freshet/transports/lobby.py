"""Connections that have not shown yet who they are: for how long they may be there, and who goes when it gets full.

A process may open a number of files, and each connection is one. Whoever sends half a request, or nothing, would
otherwise keep the others out for as long as he likes. So a connection is a guest until its request has arrived and, for
a WebSocket, until its session is connected. A guest has a deadline; and when there is no room left, the one that came
first makes room for the one that comes.

There is one timer for all guests, and none when there are none.
"""

import asyncio
import logging
import resource
from collections.abc import Callable
from typing import Protocol

from freshet.observe.logs import BoundedLog

log = logging.getLogger("freshet.connections")

TICK = 1.0  # seconds
OWN = 32  # open files of the process itself: engines, logs, the application's
MOST_RESERVED = 64  # connections that are left for short requests, such as an operator's


class Guest(Protocol):
    """A connection, for as long as it is a guest."""

    def deadline(self) -> float | None:
        """When it has to have gone on, in the loop's time; inf: it may stay while there is room; None: it is in."""

    def overdue(self) -> bool:
        """Its deadline is over: end it, and say so where the protocol can. Whether it had sent anything."""

    def evict(self) -> None:
        """Close it at once: there is no room."""


class Lobby:
    """The guests of one server. connections: how many there are, of all kinds. room: how many there may be."""

    def __init__(self, connections: Callable[[], int], room: int | None = None) -> None:
        self._connections = connections
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self._reserve = min(MOST_RESERVED, files // 8)
        self._room = room or max(8, files - OWN - 2 * self._reserve)
        self._guests: dict[Guest, None] = {}  # in the order in which they came
        self._timer: asyncio.TimerHandle | None = None
        self._log = BoundedLog(log)

    @property
    def full(self) -> bool:
        """Whether clients that stay are refused. Short requests are not: an operator's are among them."""
        if self._connections() < self._room:
            return False
        while self._guests and (oldest := next(iter(self._guests))).deadline() is None:
            del self._guests[oldest]  # it is in, which the next sweep would have found
        return self._connections() - len(self._guests) >= self._room

    def enter(self, guest: Guest) -> bool:
        """A connection has come. False: there is no room for it, nor anybody to make some; close it."""
        if self._connections() > self._room + self._reserve and not self._make_room():
            self._log.warning(
                "refused",
                "connections: %d are open, which is all that this process may have, and none is idle: new ones are "
                "closed; raise the limit of open files (ulimit -n, LimitNOFILE)",
                self._connections(),
            )
            return False
        self._guests[guest] = None
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(TICK, self._sweep)
        return True

    def leave(self, guest: Guest) -> None:
        """It is in, or gone."""
        self._guests.pop(guest, None)

    def _make_room(self) -> bool:
        while self._guests:
            guest = next(iter(self._guests))
            del self._guests[guest]
            if guest.deadline() is not None:
                self._log.warning(
                    "evicted",
                    "connections: %d are open, which is all that this process may have: the oldest that has sent no "
                    "whole request is closed for each new one",
                    self._connections(),
                )
                guest.evict()
                return True
        return False

    def _sweep(self) -> None:
        """End those whose time is over, forget those who are in."""
        loop = asyncio.get_running_loop()
        now, overdue, silent = loop.time(), 0, 0
        for guest in list(self._guests):
            deadline = guest.deadline()
            if deadline is not None and deadline > now:
                continue
            self._guests.pop(guest, None)
            if deadline is not None:
                if guest.overdue():
                    overdue += 1
                else:
                    silent += 1
        if overdue:
            self._log.warning(
                "overdue",
                "connections: %d closed, their requests did not arrive in time, or nothing of the responses was taken "
                "(see the options of [http])",
                overdue,
            )
        if not self._guests:
            self._guests = {}  # or it keeps the room that it had for those who came at once
        if silent:  # as browsers do, which open a connection ahead of need
            self._log.info("silent", "connections: %d closed that had sent nothing in time (see [http])", silent)
        self._timer = loop.call_later(TICK, self._sweep) if self._guests else None
