"""Places of workers: each has one, one that is gone leaves it to the next, and nobody has another's."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from freshet.runtime.places import WorkerPlaces

OTHER = """
import sys, time
from pathlib import Path
from freshet.runtime.places import WorkerPlaces
places = WorkerPlaces(Path(sys.argv[1]))
places.take("other")
print("taken", flush=True)
time.sleep(60)
"""


def test_each_has_the_first_that_is_free_and_all_see_the_same(tmp_path: Path) -> None:
    workers = [WorkerPlaces(tmp_path) for _ in range(3)]
    for number, worker in enumerate(workers):
        worker.take(f"node-{number}")
    assert [worker.read() for worker in workers] == [["node-0", "node-1", "node-2"]] * 3
    workers[1].leave()
    assert workers[0].read() == ["node-0", "", "node-2"]
    later = WorkerPlaces(tmp_path)
    later.take("x")
    assert workers[0].read() == ["node-0", "x", "node-2"]
    for worker in (*workers, later):
        worker.leave()
    assert later.read() == ["", "", ""]


def test_one_that_was_killed_leaves_its_place_to_the_next(tmp_path: Path) -> None:
    command = [sys.executable, "-c", OTHER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "taken\n"
        here = WorkerPlaces(tmp_path)
        here.take("here")
        assert here.read() == ["other", "here"]
        os.kill(other.pid, signal.SIGKILL)
        other.wait()
    assert here.read() == ["", "here"]
    here.leave()


def test_to_leave_twice_or_without_a_place_does_nothing(tmp_path: Path) -> None:
    places = WorkerPlaces(tmp_path)
    places.leave()
    assert places.read() == []
    places.take("a")
    places.leave()
    places.leave()
