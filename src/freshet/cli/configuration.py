"""The configuration that a command goes by: a file that was named, or freshet.toml, where there is one."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from freshet.config import Config, load

DEFAULT = Path("freshet.toml")


def configuration(
    path: Path | None = None,
    environment: Mapping[str, str] = os.environ,
    overrides: Mapping[str, Any] | None = None,
) -> Config:
    """See `config.load`. Raises ConfigError."""
    if path is None and DEFAULT.exists():
        path = DEFAULT
    return load(path, environment, overrides)
