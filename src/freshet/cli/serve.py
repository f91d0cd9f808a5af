"""`freshet serve`: the server."""

import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import typer

from freshet.cli.configuration import configuration
from freshet.cli.console import bold, fail, say, yellow
from freshet.cli.ports import must_be_free, reserved
from freshet.cli.reload import serve_again_and_again
from freshet.config import Config
from freshet.errors import ConfigError
from freshet.observe.logs import LogFormat
from freshet.runtime.server import TlsFiles
from freshet.serving.process import Logs, log_to_stderr
from freshet.serving.supervisor import Inherited, announce, place, supervise

if TYPE_CHECKING:
    from freshet.app import Freshet

ALONE = "Freshet on ws{at}/connection/websocket"
AS_AT_AWS = ", and as AWS API Gateway on ws{at}/{stage}"
LOOK = f"\nOpen {bold('http{at}')} in a browser: publish there, and see who is connected"

LogLevel = Literal["debug", "info", "warning", "error"]


def serve(
    target: Annotated[
        str | None, typer.Argument(metavar="MODULE:APP", help="An ASGI application; without it: Freshet alone.")
    ] = None,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port to listen on; 0: any free one.")] = 8000,
    config: Annotated[
        Path | None, typer.Option(help="A TOML file. Default: freshet.toml, if there is one.", exists=True)
    ] = None,
    engine: Annotated[
        str | None,
        typer.Option(help="Where the channels' logs are: memory://, sqlite:///freshet.db, redis://host, nats://host."),
    ] = None,
    dev: Annotated[bool, typer.Option("--dev", help="Open everything, for your own machine.")] = False,
    workers: Annotated[int, typer.Option(min=1, help="Processes that share the port and all channels.")] = 1,
    reload: Annotated[
        bool, typer.Option("--reload", help="Start again when a file of the application changes.")
    ] = False,
    tls_cert: Annotated[
        str, typer.Option(metavar="FILE", help="Speak TLS, with this certificate (PEM); see `freshet cert`.")
    ] = "",
    tls_key: Annotated[str, typer.Option(metavar="FILE", help="Its key, if it is not in the same file.")] = "",
    log_level: Annotated[LogLevel, typer.Option(help="What is logged: this, and what is worse.")] = "info",
    log_format: Annotated[
        LogFormat, typer.Option(help="console, or json: an object a line, with the ids of client and trace.")
    ] = "console",
) -> None:
    """Serve Freshet, or an application with Freshet in it.

    [bold]Examples[/bold]

      freshet serve --dev
      FRESHET_SECRET=... freshet serve --config freshet.toml --host 0.0.0.0
      freshet serve app:api --reload
      freshet serve app:api --workers 4
      freshet serve --tls-cert cert.pem --tls-key key.pem
    """
    if reload:
        serve_again_and_again(sys.argv[2:])
        return
    at = _Address(host, port, Logs(log_level, log_format), Inherited.of(os.environ))
    running = announce(at.inherited)
    if tls_key and not tls_cert:
        raise typer.BadParameter("there is no --tls-cert to go with it.", param_hint="--tls-key")
    if tls_cert:
        running.tls = TlsFiles(tls_cert, tls_key)
    if at.inherited is None:
        must_be_free(host, port)
        if workers > 1:
            raise typer.Exit(_parent(target or "Freshet", at, workers, _known(None if target else config)))
    if target is not None:
        app = _imported(target, with_options=config is not None or engine is not None or dev)
        _listen(app, f"Serving {bold(target)} on http{{at}}", at)
        return
    live = _standalone(config, engine, dev)
    if dev and at.inherited is None:
        _banner(host)
    gateway = AS_AT_AWS.format(stage=live.config.gateway.stage, at="{at}") if live.config.gateway.enabled else ""
    _listen(live, ALONE + gateway + (LOOK if dev else ""), at)


class _Address(NamedTuple):
    """Where a process listens. inherited: what it has of its parent; None: it is the first."""

    host: str
    port: int
    logs: Logs
    inherited: Inherited | None


def _listen(app: Any, says: str, at: _Address) -> None:
    from freshet.cli.application import mounted
    from freshet.serving.server import serve as listen

    def started(where: str) -> None:
        base = f"{'s' if announce(None).tls else ''}://{where}"
        say(f"{says.format(at=base)}{mounted(app, f'http{base}')}")

    level, form = at.logs
    listen(app, at.host, at.port, log_level=level, log_format=form, inherited=at.inherited, started=started)


def _known(config: Path | None) -> Config:
    """What a parent knows of the options of its workers, which read them themselves and say what is wrong."""
    try:
        return configuration(config)
    except ConfigError:
        return Config()


def _parent(what: str, at: _Address, workers: int, known: Config) -> int:
    log_to_stderr(at.logs.level, at.logs.format)
    with ExitStack() as ports:
        port_of_all = ports.enter_context(reserved(at.host, at.port))
        if known.internal.port:
            ports.enter_context(reserved(known.internal.host, known.internal.port))
        if "--dev" in sys.argv:
            _banner(at.host)
        where = place(at.host, port_of_all.getsockname()[1])
        scheme = "https" if announce(None).tls or known.tls.certificate else "http"
        say(f"Serving {bold(what)} on {scheme}://{where}, {workers} workers")
        return supervise(sys.argv[2:], workers, port_of_all, at.logs)


def _standalone(config: Path | None, engine: str | None, dev: bool) -> "Freshet":
    from freshet.app import Freshet

    overrides = {"engine": engine} if engine is not None else {}
    try:
        return Freshet(config=configuration(config, overrides=overrides), dev=dev)
    except ConfigError as error:
        fail(str(error), "Run `freshet check` to see what is allowed and what there is.")


def _imported(target: str, *, with_options: bool) -> Any:
    from freshet.cli.application import application

    if with_options:
        raise typer.BadParameter(
            f"{target} brings its own configuration: --config, --engine and --dev are for Freshet alone."
        )
    return application(target)


def _banner(host: str) -> None:
    where = "anyone on this machine" if host in ("127.0.0.1", "::1", "localhost") else "ANYONE WHO REACHES THIS HOST"
    say(yellow("--dev: nothing is protected"))
    say(f"Open for {where}: no tokens, clients may subscribe, publish and read everywhere.")
    say("Never use --dev where others can connect: set FRESHET_SECRET instead.")
