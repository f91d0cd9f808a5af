"""A wire between two network devices that loses, delays, reorders and repeats packets: what `netem` does, without it.

The kernel's TCP is at both ends, so that what is lost is sent again, late, by the kernel's own rules. It takes root.
"""

import heapq
import random
import selectors
import socket
import struct
import threading
import time
from itertools import count
from typing import NamedTuple

PACKETS, VIRTIO_HEADER = (
    263,
    15,
)  # SOL_PACKET, PACKET_VNET_HDR: what the card would have done stays undone, and the header says so
OURS = 4  # PACKET_OUTGOING: what this wire has sent itself
ALL = 3  # ETH_P_ALL
LONGEST = 1 << 17  # bytes


class Weather(NamedTuple):
    """loss, repeats: shares of the packets. least, most: seconds that one takes, by chance: so they overtake."""

    loss: float = 0.0
    repeats: float = 0.0
    least: float = 0.0
    most: float = 0.0


class Wire:
    """Between two devices of this namespace, which have no address. lost: packets, so far."""

    def __init__(self, *devices: str) -> None:
        self.weather = Weather()
        self.lost = 0
        self._ends = [_end(device) for device in devices]
        self._under_way: list[tuple[float, int, socket.socket, bytes]] = []
        self._numbers = count()
        self._goes_on = True
        self._thread = threading.Thread(target=self._run, name="wire")

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._goes_on = False
        self._thread.join()
        for end in self._ends:
            end.close()

    def _run(self) -> None:
        one, two = self._ends
        with selectors.DefaultSelector() as selector:
            selector.register(one, selectors.EVENT_READ, two)
            selector.register(two, selectors.EVENT_READ, one)
            while self._goes_on:
                for key, _ in selector.select(self._patience()):
                    self._take(key.fileobj, key.data)  # type: ignore[arg-type]
                self._give()

    def _patience(self) -> float:
        """Seconds until the next packet is due."""
        return min(0.1, max(0.0, self._under_way[0][0] - time.monotonic())) if self._under_way else 0.1

    def _take(self, source: socket.socket, target: socket.socket) -> None:
        packet, (_, _, kind, *_) = source.recvfrom(LONGEST)
        weather = self.weather
        if kind == OURS:
            return
        if random.random() < weather.loss:
            self.lost += 1
            return
        for _ in range(2 if random.random() < weather.repeats else 1):
            due = time.monotonic() + random.uniform(weather.least, weather.most)
            heapq.heappush(self._under_way, (due, next(self._numbers), target, packet))

    def _give(self) -> None:
        while self._under_way and self._under_way[0][0] <= time.monotonic():
            _, _, target, packet = heapq.heappop(self._under_way)
            target.send(packet)


def _end(device: str) -> socket.socket:
    end = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ALL))
    end.setsockopt(PACKETS, VIRTIO_HEADER, struct.pack("i", 1))
    end.bind((device, ALL))
    return end
