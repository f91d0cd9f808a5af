"""One process of the load of `freshet bench`."""

from freshet.cli.bench_dialects import DIALECTS
from freshet.load.worker import work

if __name__ == "__main__":
    work(DIALECTS)
