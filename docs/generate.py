"""The pages of `reference/`, written from the code: what they say is what the code does."""

import ast
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import typer

import freshet
import freshet.cli
from freshet import config, errors, testing
from freshet.api import openapi
from freshet.endpoints.gateway.gateway import SyncGateway
from freshet.endpoints.socketio.namespaces import Namespace
from freshet.runs.run import SyncRun
from freshet.testing import gateway
from freshet.wiring.sync_calls import SyncCalls

LINE = 88  # characters of a signature before it gets a line for each parameter


def completed(markdown: str) -> str:
    """A page of a file, with the table that stands elsewhere: that of the levels is CONTRIBUTING's."""
    if "<!-- levels -->" not in markdown:
        return markdown
    contributing = (Path(__file__).parent.parent / "CONTRIBUTING.md").read_text("utf-8")
    levels = contributing.partition("<!-- levels:")[2].partition("-->")[2].partition("<!-- levels end -->")[0]
    return markdown.replace("<!-- levels -->", levels)


def table(head: tuple[str, ...], rows: Iterator[tuple[str, ...]] | list[tuple[str, ...]]) -> str:
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, tuple("---" for _ in head), *rows])


def code(text: object) -> str:
    return f"`{text}`" if text not in ("", None) else ""


# ------------------------------------------------------------------------------------------------------- configuration

TABLES = {
    "": "General",
    "tokens": "`[tokens]`",
    "tokens.keys[]": "`[[tokens.keys]]`",
    "api": "`[api]`",
    "metrics": "`[metrics]`",
    "admin": "`[admin]`",
    "webhooks": "`[webhooks]`",
    "gateway": "`[gateway]`",
    "gateway.routes[]": "`[[gateway.routes]]`",
    "gateway.authorizer": "`[gateway.authorizer]`",
    "gateway.keys[]": "`[[gateway.keys]]`",
    "channels[]": "`[[channels]]`",
    "channels[].state": "`state` of a channel",
    "limits": "`[limits]`",
    "rates": "`[rates]`",
    "timing": "`[timing]`",
    "rooms": "`[rooms]`",
    "runs": "`[runs]`",
    "http": "`[http]`",
    "tls": "`[tls]`",
    "internal": "`[internal]`",
    "health": "`[health]`",
    "tracing": "`[tracing]`",
    "websocket": "`[websocket]`",
}
ABOUT_TABLES = {
    "": "At the top of the file, before any table.",
    "tokens": config.Tokens.__doc__,
    "tokens.keys[]": config.TokenKey.__doc__,
    "api": config.Api.__doc__,
    "metrics": config.Metrics.__doc__,
    "admin": config.Admin.__doc__,
    "webhooks": config.Webhooks.__doc__,
    "gateway": config.GatewayOptions.__doc__,
    "gateway.routes[]": config.GatewayRoute.__doc__,
    "gateway.authorizer": config.GatewayAuthorizer.__doc__,
    "gateway.keys[]": config.GatewayKey.__doc__,
    "channels[]": config.ChannelConfig.__doc__,
    "channels[].state": config.State.__doc__,
    "limits": config.Limits.__doc__,
    "rates": config.Rates.__doc__,
    "timing": config.Timing.__doc__,
    "rooms": config.Rooms.__doc__,
    "runs": config.Runs.__doc__,
    "http": config.Http.__doc__,
    "tls": config.Tls.__doc__,
    "internal": config.Internal.__doc__,
    "health": config.HealthLimits.__doc__,
    "tracing": config.TracingOptions.__doc__,
    "websocket": config.WebSocket.__doc__,
}

TYPES = {
    "str": "text",
    "int": "integer",
    "float": "number",
    "bool": "true, false",
    "list": "list",
    "History": "table",
    "Rate": "table",
}


def configuration() -> str:
    groups: dict[str, list[config.Option]] = {}
    for option in config.reference():
        groups.setdefault(option.path.rpartition(".")[0], []).append(option)
    parts = [CONFIGURATION]
    for path, options in groups.items():
        rows = [
            (
                code(option.path.rpartition(".")[2]),
                TYPES.get(option.type) or code(option.type.replace('"', "")),
                " ".join(filter(None, (_default(option.default), option.unit.replace("count", "")))),
                option.doc,
            )
            for option in options
        ]
        parts += [
            f"## {TABLES[path]}",
            inspect.cleandoc(ABOUT_TABLES[path] or ""),
            table(("option", "type", "default", "meaning"), rows),
        ]
    return "\n\n".join(parts)


def _default(text: str) -> str:
    return {"": "must be given", "null": "none"}.get(text) or code(text)


CONFIGURATION = """\
# Configuration

Every option has a default, except `match` of a rule. There are three ways to set one; the first that sets it wins:

1. a flag, for the few that have one (see [Command line](command-line.md));
2. the environment: `FRESHET_` and the option's path in capitals, with two underscores for each dot. `limits.outbox` is
   `FRESHET_LIMITS__OUTBOX`. Lists of texts are separated by commas, tables and lists of tables are JSON;
3. the TOML file: `freshet.toml` where the server starts, or what `--config` names.

`freshet check` reads the configuration as the server does. It names a mistake with its path, and says what is allowed.
In Python the same options are `freshet.config.Config` and the structs in it."""


# ---------------------------------------------------------------------------------------------------------- server API


def server_api() -> str:
    description = openapi.describe()
    schemas = description["components"]["schemas"]
    parts = [SERVER_API]
    for path, operations in description["paths"].items():
        operation = operations["post"]
        request = _schema(operation["requestBody"]["content"]["application/json"]["schema"], schemas)
        answer = operation["responses"]["200"]["content"]["application/json"]["schema"]
        parts += [f"## {path.removeprefix('/')}", operation["summary"]]
        parts.append("Request:\n\n" + _fields(request, schemas) if request["properties"] else "The request is `{}`.")
        result = answer["oneOf"][0]["properties"]["result"] if "oneOf" in answer else answer
        fields = _schema(result, schemas)
        what = "Result" if "oneOf" in answer else "Answer"
        shown = f"{what}:\n\n" + _fields(fields, schemas, given=False)
        parts.append(shown if fields["properties"] else "The result is `{}`.")
    return "\n\n".join(parts)


def _schema(schema: dict[str, Any], schemas: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = schemas[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
    return found


def _fields(schema: dict[str, Any], schemas: dict[str, Any], *, given: bool = True) -> str:
    required = schema.get("required", [])
    rows = []
    for name, field in sorted(schema["properties"].items(), key=lambda item: item[0] not in required):
        row = (code(name), _type(field, schemas), field.get("description", ""))
        rows.append((*row[:2], "yes" if name in required else "", row[2]) if given else row)
    return table(("field", "type", "required", "meaning") if given else ("field", "type", "meaning"), rows)


def _type(field: dict[str, Any], schemas: dict[str, Any]) -> str:
    """A JSON schema in a few words."""
    if "$ref" in field:
        inner = _schema(field, schemas)["properties"]
        return "`{ " + ", ".join(inner) + " }`"
    if "anyOf" in field:
        kinds = [each for each in field["anyOf"] if each.get("type") != "null"]
        return _type(kinds[0], schemas)
    kind = field.get("type", "")
    if kind == "array":
        return f"list of {_type(field['items'], schemas) if field.get('items') else 'any JSON'}"
    if kind == "object" and isinstance(field.get("additionalProperties"), dict):
        return f"object of {_type(field['additionalProperties'], schemas) or 'any JSON'}"
    return {"": "any JSON", "string": "text", "object": "object"}.get(kind, kind)


SERVER_API = """\
# Server API

`POST {prefix}/api/{method}`, with a JSON object as the body and the key in the header `X-API-Key`. The prefix is where
Freshet is mounted; `freshet serve` alone has none. [From any language](../quick-start/http.md) shows it in use.

The key is the option `api.key`, or the environment variable that `api.key_env` names, `FRESHET_API_KEY` by default.
Without a key the API refuses every caller, except with `--dev`.

A request that could be read is answered with status 200 and one of two objects:

- `{"result": ...}`: it was done;
- `{"error": {"code": 102, "message": "..."}}`: it was refused. The [codes](codes.md#refusals) are those that clients
  see. Code 100 is not a refusal: the server or the engine failed, and nobody knows whether it was done. Publish again
  with the same `idempotency_key`.

A request that could not be read gets the same kind of `error` and another status: 400 (not JSON, or not what the method
takes), 401 (no key, or not this one), 403 (no key is asked for, and a web page of another origin calls), 404 (no such
method), 405 (not a POST), 413 (longer than `api.body_size`). The message says what was wrong, where, and what is
allowed.

`GET {prefix}/api/` is a page to try it. `GET {prefix}/api/openapi.json` describes all of this for other programs, as
OpenAPI 3.1. The shapes are those of the
server API of Centrifugo, so that the clients for it work too. `cent` for Python is tested with every method."""


# ---------------------------------------------------------------------------------------------------------- Python API

# What is shown of a class that has more for the inside of Freshet than for its users.
MEMBERS: dict[str, tuple[str, ...]] = {
    "Gateway": (
        "route",
        "handler",
        "authorizer",
        "post",
        "post_all",
        "get",
        "delete",
        "subscribe",
        "unsubscribe",
    ),
    "Namespace": ("on_connect", "on_disconnect", "on", "emit"),
    "Session": ("claims", "join", "leave", "disconnect"),
    "SocketSession": ("emit", "call"),
    "Stream": ("follows",),
    "testing.ManualClock": ("advance",),
}


def python() -> str:
    parts = [PYTHON]
    names = ["Freshet", "Channel", *sorted(set(freshet.__all__) - {"Freshet", "Channel"})]
    for name in names:
        value = getattr(freshet, name)
        about = _class(name, value) if inspect.isclass(value) else [_prose(type(value).__doc__ or "")]
        parts += [f"## {name}", *about]
    parts += ["## live.sync", *_class("SyncCalls", SyncCalls), "## run.sync", *_class("SyncRun", SyncRun)]
    parts += ["## gateway.sync", *_class("SyncGateway", SyncGateway), "## Namespace", *_class("Namespace", Namespace)]
    about, _, prose = (testing.__doc__ or "").partition("\n\n")
    parts += ["## freshet.testing", about, _prose(prose)]
    for kind in (testing.Client, testing.Received, testing.SubscribeResult, testing.ClientEvent, testing.ManualClock):
        name = f"testing.{kind.__name__}"
        parts += [f"## {name}", *_class(name, kind)]
    about, _, prose = (gateway.__doc__ or "").partition("\n\n")
    parts += ["## freshet.testing.gateway", about, _prose(prose)]
    for client in (gateway.GatewayClient, gateway.HandshakeRefused, gateway.ConnectionClosed):
        name = f"testing.gateway.{client.__name__}"
        parts += [f"## {name}", *_class(name, client)]
    return "\n\n".join(parts)


PYTHON = """\
# Python API

Everything that applications import, from `freshet` itself, and what tests import from `freshet.testing`. Other modules
are the inside of Freshet and may change."""


def _class(name: str, kind: type) -> Iterator[str]:
    tree = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
    assert isinstance(tree, ast.ClassDef)
    fields = [ast.unparse(each) for each in tree.body if isinstance(each, ast.AnnAssign)]
    fields = [] if name == "SocketSession" else fields  # its `record` is for the inside
    methods = {each.name: each for each in tree.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)}
    made = methods.get("__init__")
    if name == "Config":
        yield "All options, as a struct: see [Configuration](configuration.md)."
        return
    if name in ("Freshet", "Refusal", "Disconnect", "ConfigError") and made is not None:
        yield _python(_signature(made, name))
    elif fields:
        yield _python(f"class {name}:\n" + "\n".join(f"    {field}" for field in fields))
    yield _prose(inspect.getdoc(kind) or "")
    shown = MEMBERS.get(name)
    constructors = []
    for method, node in methods.items():
        if method.startswith("_") or (shown is not None and method not in shown):
            continue
        decorators = [ast.unparse(each) for each in node.decorator_list]
        if name in ("Refusal", "Disconnect") and "classmethod" in decorators:
            constructors.append(method)
            continue
        yield f"### {name}.{method}"
        yield _python(_signature(node, method, is_property="property" in decorators))
        yield _prose(inspect.getdoc(getattr(kind, method)) or "")
    if constructors:
        listed = ", ".join(code(f"{name}.{each}()") for each in constructors)
        yield f"One constructor for each of Freshet's own [codes](codes.md): {listed}."


def _python(text: str) -> str:
    return f"```python\n{text}\n```"


def _signature(node: ast.FunctionDef | ast.AsyncFunctionDef, name: str, *, is_property: bool = False) -> str:
    """As it stands in the source, without `self`: a default is written as its author wrote it."""
    returns = f" -> {ast.unparse(node.returns)}" if node.returns and name == node.name else ""
    if is_property:
        return f"{name}{returns.replace(' -> ', ': ')}"
    start = ("async def " if isinstance(node, ast.AsyncFunctionDef) else "def ") if name == node.name else ""
    node.args.args = node.args.args[1:]
    arguments = ast.unparse(node.args)
    line = f"{start}{name}({arguments}){returns}"
    if len(line) <= LINE:
        return line
    positional = node.args.args
    given: list[ast.expr | None] = [*[None] * (len(positional) - len(node.args.defaults)), *node.args.defaults]
    each = [_parameter(*pair) for pair in zip(positional, given, strict=True)]
    if node.args.vararg or node.args.kwonlyargs:
        each.append(f"*{ast.unparse(node.args.vararg) if node.args.vararg else ''}")
    each += [_parameter(*pair) for pair in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)]
    each += [f"**{ast.unparse(node.args.kwarg)}"] if node.args.kwarg else []
    return f"{start}{name}(\n" + "".join(f"    {one},\n" for one in each) + f"){returns}"


def _parameter(argument: ast.arg, default: ast.expr | None) -> str:
    return ast.unparse(argument) + (f" = {ast.unparse(default)}" if default is not None else "")


def _prose(docstring: str) -> str:
    """Paragraphs stay; a line that begins with `name:` begins an item of a list."""
    parts = []
    for paragraph in docstring.split("\n\n"):
        if paragraph.startswith("    "):
            parts.append(f"```text\n{textwrap.dedent(paragraph)}\n```")
            continue
        lines: list[str] = []
        for line in paragraph.splitlines():
            found = re.match(r"([a-z_]+(?:, [a-z_]+)*): (.*)", line)
            lines.append(f"\n- `{found[1]}`: {found[2]}" if found else f"  {line.strip()}" if lines else line)
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


# -------------------------------------------------------------------------------------------------------- command line


def commands() -> str:
    group: Any = typer.main.get_command(freshet.cli.app)
    parts = [COMMANDS, (freshet.cli.__doc__ or "").partition("\n\n")[2].strip()]
    for name, command in group.commands.items():
        parts += [f"## freshet {name}", *_help(command.help or "")]
        rows = []
        for parameter in command.params:
            if parameter.name == "help":
                continue
            flags = ", ".join(map(code, parameter.opts)) if parameter.param_type_name == "option" else ""
            shown = parameter.default if isinstance(parameter.default, str | int | float) else ""
            rows.append(
                (
                    flags or code(parameter.metavar or parameter.name.upper()),
                    code(shown) if not isinstance(shown, bool) else "",
                    (parameter.help or "") + (f" Environment: `{parameter.envvar}`." if parameter.envvar else ""),
                )
            )
        if rows:
            parts.append(table(("option", "default", "meaning"), rows))
    return "\n\n".join(parts)


def _help(text: str) -> Iterator[str]:
    """A command's docstring: rich's marks become Markdown, its indented examples a block of code."""
    for paragraph in re.sub(r"\[/?bold\]", "**", inspect.cleandoc(text)).split("\n\n"):
        if paragraph.startswith("  "):
            lines = textwrap.dedent(paragraph).splitlines()
            yield "```console\n" + "\n".join(f"$ {line}" for line in lines) + "\n```"
        else:
            yield paragraph


COMMANDS = """\
# Command line

`freshet --help` lists the commands, `freshet COMMAND --help` explains one. Results go to standard output, all else to
standard error."""


# --------------------------------------------------------------------------------------------------------------- codes

REFUSALS = {
    100: "A mistake in the server or the application. The log has it; the client may try again.",
    101: "The client has not shown who it is.",
    102: "No rule matches the channel.",
    103: "The rule, the token or a hook does not allow it.",
    104: "No function answers that call.",
    105: "The client is subscribed to that channel already.",
    106: "More than an option under `[limits]` or `[api]` allows.",
    107: "The command cannot be read, or its data does not fit the type that the hook asks for.",
    108: "The rule has no history, no presence or no state, or no function answers calls.",
    109: "The token has expired: the client gets a new one and tries again.",
    110: "What was asked for has expired.",
    111: "Too much in too short a time; the client may try again later.",
    112: "The log no longer reaches back to the position that the client named.",
    120: "An entry of a state has another value than the client expects.",
}
DISCONNECTS = {
    1009: "The client sent more at once than the named option allows; `centrifuge` clients stay away then.",
    3000: "The client closed, or its network did.",
    3001: "The server stops. The client reconnects, to this server or to another.",
    3004: "A mistake in the server or the application. The log has it.",
    3005: "The token has expired, and the client did not refresh it within `timing.expiry_grace`.",
    3006: "A subscription has expired.",
    3008: "The client is slow: its outbox is over `limits.outbox`, or it does not read what it asked for.",
    3010: "A gap in a channel that its log cannot fill: the client reconnects, and learns whether it recovered.",
    3011: "The application asked the client to reconnect.",
    3012: "The client did not answer a heartbeat within `timing.pong_timeout`.",
    3500: "The token is missing, forged or not for this server.",
    3501: "The client sent what the protocol does not know.",
    3502: "The client did not connect within `timing.connect_timeout`.",
    3503: "The application disconnected the client, for good.",
    3504: "As many clients of the user are connected as `limits.sessions_per_user` allows.",
    3507: "The application does not allow it.",
    3508: "The server does not do what the client asked for.",
    3509: "The client went on after too many of its commands were refused, or after it was paced; see `[rates]`.",
}


def codes() -> str:
    refusals = [
        (str(each.code), each.message, "yes" if each.temporary else "", REFUSALS[each.code])
        for each in _constructed(errors.Refusal)
    ]
    disconnects = [
        (str(each.code), each.reason, "yes" if each.reconnect else "no", DISCONNECTS[each.code])
        for each in _constructed(errors.Disconnect)
    ]
    return CODES.format(
        refusals=table(("code", "message", "try again", "when"), refusals),
        disconnects=table(("code", "reason", "reconnects", "when"), disconnects),
    )


def _constructed(kind: Callable[..., Any]) -> list[Any]:
    made = [getattr(kind, name)() for name, each in vars(kind).items() if isinstance(each, classmethod)]
    return sorted(made, key=lambda each: each.code)


CODES = """\
# Codes

The codes are those of the Centrifugal client protocol, so that its clients know them already.

## Refusals

One command is refused: the client gets the code and the message as the reply, and its session goes on. Codes from 1000
on are for applications: `raise Refusal(1001, "the room is full")`.

{refusals}

## Disconnects

The end of a session. The code says whether the client reconnects: 3000-3499 and 4000-4499 yes, 3500-3999 and
4500-4999 no. Codes from 4000 on are for applications.

{disconnects}

## The end of a subscription

The server ended one subscription; the session goes on. From 2500 on, the client subscribes again by itself.

| code | reason | subscribes again |
| --- | --- | --- |
| 2000 | server unsubscribe | no |
| 2501 | subscription expired | yes |

## On a channel's URL

A bare WebSocket on `/channels/{{channel}}` has no replies, so a refusal closes it: with 4500 and the refusal's code
(4603 is "permission denied"), or 4000 and the code when it may be tried again. 4612 means that the socket asked to go
on from a position that the log no longer reaches."""

PAGES: dict[str, Callable[[], str]] = {
    "configuration": configuration,
    "server-api": server_api,
    "python": python,
    "command-line": commands,
    "codes": codes,
}
