"""An application with the engine that is asked for; without one, with the one that belongs to a process."""

import os

from freshet import Freshet
from freshet.config import parse

live = Freshet(config=parse({"engine": os.environ.get("TEST_ENGINE", "memory://")}), dev=True, environment={})
