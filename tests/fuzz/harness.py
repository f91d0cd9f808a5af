"""Runs a target: makes inputs, watches what they cost, and keeps those that it has not seen the like of."""

import gc
import hashlib
import time
import tracemalloc
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from random import Random
from typing import NamedTuple

from tests.fuzz.mutation import LONGEST, mutated
from tests.tools.patience import SCALE

MIB = 1024 * 1024
CORPUS = Path(__file__).parent / "corpus"
POOL = 3000  # inputs that are kept as parents
PARENT = 4096  # bytes of those; few may have more
KEPT = 2048  # bytes of an input that goes into the corpus
FILES = 40  # of each target that it holds
FRESH = 0.2  # of all inputs come from the grammar, the others from inputs before them
MEASURED = 1000  # of so many inputs the memory of one is measured
GROWTH = 48 * MIB  # of the process, after its first tenth


class Target(NamedTuple):
    """What is fuzzed.

    run: given an input, what came of it, in so few words that inputs of one kind say the same; raises for a failure.
    fresh: an input by the grammar. words: of the language. fixed, each: seconds that any input may take, and for each
    byte. swells: bytes of memory for each byte of an input.
    """

    name: str
    run: Callable[[bytes], Hashable]
    fresh: Callable[[Random], bytes]
    words: Sequence[bytes] = ()
    fixed: float = 0.004
    each: float = 0.3e-6
    swells: int = 100


class Failed(Exception):
    """An input that fails, and why."""

    def __init__(self, target: Target, data: bytes, why: str) -> None:
        shown = repr(data) if len(data) < 2000 else f"{data[:1000]!r} ... {len(data)} bytes"
        super().__init__(f"{target.name}: {why}: {shown}")
        self.data = data


class Report(NamedTuple):
    """slowest: seconds above what the length explains, as part of what is allowed. growth: bytes of the process."""

    inputs: int
    outcomes: int
    slowest: float
    growth: int
    new: list[bytes]


def corpus(name: str) -> list[bytes]:
    """The inputs that are kept."""
    return [path.read_bytes() for path in sorted((CORPUS / name).glob("*"))]


def keep(name: str, inputs: Sequence[bytes]) -> None:
    """Add to the corpus what is small, while there is room."""
    folder = CORPUS / name
    folder.mkdir(parents=True, exist_ok=True)
    room = FILES - len(list(folder.iterdir()))
    for data in [each for each in inputs if len(each) <= KEPT][: max(0, room)]:
        (folder / hashlib.sha256(data).hexdigest()[:12]).write_bytes(data)


def resident() -> int:
    """Bytes of this process."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def one(target: Target, data: bytes) -> tuple[Hashable, float]:
    """What comes of an input, and its time as part of what is allowed. Raises Failed."""
    allowed = (target.fixed + target.each * len(data)) * SCALE
    took = allowed * 2
    outcome: Hashable = None
    for _ in range(5):  # others use the processor, and the collector runs: one time that is in order is proof
        start = time.thread_time()
        try:
            outcome = target.run(data)
        except Exception as error:
            raise Failed(target, data, f"{type(error).__name__} {error}") from error
        took = min(took, time.thread_time() - start)
        if took <= allowed:
            return outcome, took / allowed
    raise Failed(target, data, f"{took * 1000:.1f} ms, {allowed * 1000:.1f} are allowed")


def swelling(target: Target, data: bytes) -> None:
    """Raises Failed when an input takes too much memory while it is read."""
    tracemalloc.start()
    try:
        target.run(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    if peak > 2 * MIB + target.swells * len(data):
        raise Failed(target, data, f"{peak} bytes of memory")


def fuzz(target: Target, inputs: int, seed: int, known: Sequence[bytes] = ()) -> Report:
    """Run so many. Raises Failed at the first that fails."""
    chance = Random(seed)
    seen: set[Hashable] = set()
    pool, new = [b""], list[bytes]()
    slowest, start = 0.0, 0

    def tried(data: bytes, *, is_known: bool) -> None:
        nonlocal slowest
        outcome, took = one(target, data)
        slowest = max(slowest, took)
        if outcome not in seen and len(seen) < POOL and (len(data) <= PARENT or chance.random() < 0.05):
            seen.add(outcome)
            pool.append(data)
            if not is_known:
                new.append(data)

    for data in known:
        tried(data, is_known=True)
    for number in range(inputs):
        if number == inputs // 10:
            start = resident()
        if chance.random() < FRESH:
            data = target.fresh(chance)[:LONGEST]
        else:
            data = mutated(chance, chance.choice(pool), target.words, pool)
        tried(data, is_known=False)
        if not number % MEASURED:
            swelling(target, data)
    growth = resident() - start
    if growth > GROWTH:
        raise Failed(target, b"", f"the process grew by {growth // MIB} MiB")
    return Report(inputs, len(seen), slowest, growth, new)
