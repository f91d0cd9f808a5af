"""`.env`: where `freshet init` leaves the secrets, and where every command and `Freshet.from_config` find them."""

from pathlib import Path

from freshet.config.reading import PREFIX
from freshet.errors import ConfigError

NAME = ".env"


def variables(folder: Path = Path()) -> dict[str, str]:
    """What the `.env` of a folder has of ours. A line is `NAME=value`, `#` begins a comment.

    Other names are other programs' business. Raises ConfigError.
    """
    path = folder / NAME
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(str(path), f"cannot be read: {error}") from None
    found = {}
    for number, line in enumerate(lines, 1):
        text = line.strip().removeprefix("export ")
        if not text.startswith(PREFIX):
            continue
        name, separator, value = text.partition("=")
        if not separator:
            raise ConfigError(f"{path}, line {number}", "expected NAME=value")
        value = value.strip()
        if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
            value = value[1:-1]
        found[name.strip()] = value
    return found
