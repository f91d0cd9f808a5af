"""What goes wrong in the second ten minutes: thirty-odd typical mistakes, and what has to be said about each.

An answer says what is wrong, where, and the way out, and shows no line of our own code.
"""

from typing import NamedTuple

from tests.tools.ports import HOST

SECRET = "a secret for tests, thirty-two bytes"
TAKEN, MOUNTED, PLAIN, SECURE = "TAKEN", "MOUNTED", "PLAIN", "SECURE"
"""A port that is taken; where a Freshet is mounted at /live; where one stands alone, and the same with https."""


class Mistake(NamedTuple):
    """what: was done. command: that is run, in a folder with the `files`. says: all of it, anywhere in the answer."""

    what: str
    command: str
    says: tuple[str, ...]
    files: dict[str, str] = {}  # noqa: RUF012 - nobody changes it
    code: int = 2
    env: dict[str, str] = {}  # noqa: RUF012


_APP = """from fastapi import FastAPI
from freshet import Freshet, History

live = Freshet(dev=True)
port = 8000
api = FastAPI(lifespan=live.lifespan)
"""


def _app(lines: str) -> dict[str, str]:
    return {"app.py": _APP + lines}


def _toml(text: str) -> dict[str, str]:
    return {"freshet.toml": text}


def _rule(options: str) -> dict[str, str]:
    return _toml(f"[[channels]]\n{options}\n")


_LINE = '/app.py", line 7'
_REPAIR = "repair that, and start again"

COMMAND_LINE = (
    Mistake("a command with a typing error", "sever", ("No such command 'sever'", "'serve'")),
    Mistake("a port that cannot be", "serve --port 80000", ("--port", "65535")),
    Mistake("a port that is taken", f"serve --dev --port {TAKEN}", (f"{HOST}:{TAKEN}", "in use", "is free"), code=1),
    Mistake("the same, with workers", f"serve --dev --workers 2 --port {TAKEN}", (TAKEN, "in use", "is free"), code=1),
    Mistake("an address of another machine", "serve --host 192.0.2.7", ("192.0.2.7", "Cannot assign"), code=1),
    Mistake("a port in the host", "serve --host localhost:9000", ("localhost:9000", "without a port"), code=1),
    Mistake("a log level that is none", "serve --log-level verbose", ("--log-level", "debug", "warning")),
    Mistake("a file that is not there", "check --config here.toml", ("here.toml", "No such file")),
    Mistake("no secret for a token", "token --user alice", ("no secret is set", "FRESHET_SECRET")),
    Mistake("an expiry in words", "token --user alice --expires soon", ("30s",), env={"FRESHET_SECRET": SECRET}),
    Mistake("a line of .env without a value", "check", (".env, line 1", "NAME=value"), {".env": "FRESHET_SECRET\n"}),
    Mistake(
        "an option of the environment with a typing error",
        "check",
        ("FRESHET_ENGIN", "'engine'"),
        _toml(""),
        env={"FRESHET_ENGIN": "memory://"},
    ),
    Mistake(
        "init in a folder that has an app.py",
        "init",
        ("app.py is there already", "freshet init NAME"),
        {"app.py": ""},
        code=1,
    ),
)

APPLICATION = (
    Mistake("the module alone", "serve app", ("app", "MODULE:APP", "app:api"), _app("")),
    Mistake("a module that is not there", "serve nowhere:api", ('"nowhere"', "MODULE:APP")),
    Mistake("a name that is not there", "serve app:application", ('"application"', "MODULE:APP"), _app("")),
    Mistake("what is no application", "serve app:port", ("int", "no application", "live, api"), _app("")),
    Mistake("a configuration as the application", "serve freshet.toml", ("freshet.toml", "--config"), _toml("")),
    Mistake(
        "an import that fails",
        "serve app:api",
        (_LINE, "No module named 'pandaz'", _REPAIR),
        _app("import pandaz\n"),
        code=1,
    ),
    Mistake("a syntax error", "serve app:api", (_LINE, "SyntaxError", _REPAIR), _app("def f(:\n"), code=1),
    Mistake(
        "a pattern with half a parameter",
        "serve app:api",
        (_LINE, "match", "brace", "{name}"),
        _app('live.channel("chat:{room")\n'),
        code=1,
    ),
    Mistake(
        "an option's value that there is not",
        "serve app:api",
        (_LINE, "publish", "'everyone'", "subscriber"),
        _app('live.channel("chat", publish="everyone")\n'),
        code=1,
    ),
    Mistake(
        "an option with a typing error",
        "serve app:api",
        (_LINE, "histroy", "'history'"),
        _app('live.channel("chat", histroy=History(10, 60))\n'),
        code=1,
    ),
    Mistake(
        "a history that is a number",
        "serve app:api",
        (_LINE, "History(size=..., ttl=...)"),
        _app('live.channel("chat", history=100)\n'),
        code=1,
    ),
    Mistake(
        "a hook that asks for what there is not",
        "serve app:api",
        ("'rooms'", "room", "session"),
        _app('@live.channel("chat:{room}").on_subscribe\nasync def may(session, rooms): ...\n'),
        code=1,
    ),
    Mistake("--dev for an application", "serve app:api --dev", ("brings its own configuration",), _app("")),
)

CONFIGURATION = (
    Mistake("what is no TOML", "check", ("freshet.toml", "line 1"), _toml("a = = 3\n")),
    Mistake("an option that there is not", "check", ("origin", "'origins'"), _toml('origin = ["https://a"]\n')),
    Mistake("half a parameter", "check", ("channels[0].match", "brace"), _rule('match = "chat:{room"')),
    Mistake(
        "a value that there is not",
        "check",
        ("channels[0].publish", "'everyone'", "subscriber"),
        _rule('match = "a"\npublish = "everyone"'),
    ),
    Mistake(
        "a history that is a number",
        "check",
        ("channels[0].history", "{ size = ..., ttl = ... }"),
        _rule('match = "a"\nhistory = 100'),
    ),
    Mistake(
        "an engine that there is not", "check", ("engine", "'reddis'", "redis", "nats"), _toml('engine = "reddis://a"')
    ),
    Mistake(
        "a broker that is away",
        f"serve --engine redis://{HOST}:1 --port 0",
        ("Redis cannot be reached", f"{HOST}:1"),
        code=3,
    ),
)

RUNNING = (
    Mistake(
        "no server there", f"publish news 1 --url http://{HOST}:1", (f"{HOST}:1", "refused", "freshet serve"), code=1
    ),
    Mistake(
        "another server there", f"publish news 1 --url http://{HOST}:{TAKEN}", (TAKEN, "no server API", "--url"), code=1
    ),
    Mistake(
        "the prefix of the mount left out",
        f"publish news 1 --url {MOUNTED}",
        ("404", "no server API", "PREFIX"),
        code=1,
    ),
    Mistake("no key", f"publish news 1 --url {MOUNTED}/live", ("a key is required", "FRESHET_API_KEY"), code=1),
    Mistake("a wrong key", f"publish news 1 --url {MOUNTED}/live --api-key no", ("FRESHET_API_KEY",), code=1),
    Mistake(
        "a channel without a rule",
        f"publish other 1 --url {MOUNTED}/live --api-key key",
        ("no rule for channel 'other'", "live.channel(...)"),
        code=1,
    ),
    Mistake(
        "the path of the API in the URL",
        f"publish news 1 --url {MOUNTED}/live/api --api-key key",
        ("the server API itself", "Leave /api out"),
        code=1,
    ),
    Mistake(
        "TLS where none is spoken",
        f"publish news 1 --url {SECURE}",
        ("no TLS is spoken there", "http://"),
        code=1,
    ),
    Mistake("the same of a subscriber", f"tail news --url {SECURE}", ("no TLS is spoken there", "http://"), code=1),
    Mistake(
        "a prefix where there is no mount", f"tail news --url {PLAIN}/live", ("the prefix", "leave it out"), code=1
    ),
    Mistake("plain text as data", f"publish news hello --url {PLAIN}", ("DATA is not JSON", "--text")),
    Mistake("no token", f"tail news --url {MOUNTED}/live", ("a token is required", "--token"), code=1),
    Mistake(
        "a channel without a rule, to subscribe to",
        f"tail other --url {MOUNTED}/live",
        ("no rule for channel 'other'", "live.channel(...)"),
        code=1,
        env={"FRESHET_SECRET": SECRET},
    ),
    Mistake("the prefix left out by a client", f"tail news --url {MOUNTED}", ("403", "PREFIX"), code=1),
    Mistake("no key for operators", f"top --url {MOUNTED}/live", ("no admin page", "FRESHET_ADMIN_KEY"), code=1),
    Mistake(
        "a token of another secret",
        f"tail news --as alice --url {MOUNTED}/live",
        ("invalid token",),
        code=1,
        env={"FRESHET_SECRET": SECRET + "?"},
    ),
)
