"""Documented behaviour of AWS API Gateway, tried on whatever stands in for it: Freshet, serverless-offline, moto.

`python -m tests.endpoints.gateway.conformance --write --serverless FOLDER` writes the table of docs/about/gateway.md;
FOLDER has the npm packages serverless@3.40.0 and serverless-offline@14.8.0. The tests run Freshet's column only, and
compare it with the page.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import boto3
from botocore import UNSIGNED
from botocore.config import Config as BotoConfig
from botocore.exceptions import BotoCoreError, ClientError
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from tests.tools.need import ROOT
from tests.tools.patience import seconds, wait_until
from tests.tools.ports import HOST, free_port
from tests.tools.serving import serving

PAGE = ROOT / "docs" / "about" / "gateway.md"
BEGIN = "<!-- table: python -m tests.endpoints.gateway.conformance --write -->\n\n"
END = "\n\n<!-- table end -->"
KIB = 1024
UNKNOWN = "AAAAAAAAAAAAAAA="


class Place(NamedTuple):
    """Where an API is. full: it has all routes; bare: it has only `event`. notes: what `$disconnect` wrote.

    pid: of the process that has the full one.
    """

    full: str
    bare: str
    api: str
    notes: Path
    sockets: bool = True
    pid: int = 0

    @property
    def client(self) -> Any:
        return boto3.client(
            "apigatewaymanagementapi",
            endpoint_url=self.api,
            region_name="us-east-1",
            aws_access_key_id="any",
            aws_secret_access_key="any",
            config=BotoConfig(retries={"total_max_attempts": 1}, signature_version=UNSIGNED),
        )


def say(socket: Any, message: Any) -> Any:
    socket.send(message if isinstance(message, str | bytes) else json.dumps(message))
    return json.loads(socket.recv(timeout=seconds(8)))


def event(socket: Any) -> Any:
    return say(socket, {"action": "event"})


def name_of(call: Callable[[], Any]) -> str:
    """Of what a call raises."""
    try:
        call()
    except (ClientError, BotoCoreError) as error:
        return type(error).__name__
    return "nothing"


# ---------------------------------------------------------------------------------------------------------- the probes


def enters_with_its_stage(place: Place) -> bool:
    with connect(place.full + "/dev") as socket:
        return bool(event(socket)["requestContext"]["stage"] == "dev")


def enters_without_a_connect_route(place: Place) -> bool:
    with connect(place.bare) as socket:
        return bool(event(socket))


def refuses_with_the_status_of_connect(place: Place) -> bool:
    try:
        with connect(place.full + "?refuse=403"):
            return False
    except InvalidStatus as refused:
        return refused.response.status_code == 403


def has_no_subprotocol_unless_connect_says_so(place: Place) -> bool:
    with connect(place.full, subprotocols=["a"]) as socket:
        return socket.subprotocol is None


def finds_no_route_and_says_forbidden(place: Place) -> bool:
    with connect(place.bare) as socket:
        return bool(say(socket, {"action": "unknown"})["message"] == "Forbidden" and event(socket))


def has_default_as_the_key_of_what_finds_none(place: Place) -> bool:
    with connect(place.full) as socket:
        return bool(say(socket, {"action": "unknown"})["requestContext"]["routeKey"] == "$default")


def takes_what_is_no_json_to_default(place: Place) -> bool:
    with connect(place.full) as socket:
        return bool(say(socket, "no JSON")["body"] == "no JSON")


def sends_message_events_without_headers(place: Place) -> bool:
    with connect(place.full) as socket:
        return set(event(socket)) == {"requestContext", "body", "isBase64Encoded"}


def has_the_client_s_address_in_each_event(place: Place) -> bool:
    with connect(place.full, source_address=("127.0.0.5", 0)) as socket:
        return bool(event(socket)["requestContext"]["identity"]["sourceIp"] == "127.0.0.5")


def has_ids_of_sixteen_characters(place: Place) -> bool:
    with connect(place.full) as socket:
        context = event(socket)["requestContext"]
        ids = (context["connectionId"], context["requestId"], context["messageId"])
        return all(re.fullmatch(r"[A-Za-z0-9_-]{15}=", id) for id in ids)


def says_how_a_client_left(place: Place) -> bool:
    place.notes.unlink(missing_ok=True)
    with connect(place.full) as socket:
        event(socket)
        socket.close(1000)
    wait_until(place.notes.exists, 5, "$disconnect")
    wait_until(lambda: place.notes.read_text().endswith("\n"), 5, "$disconnect")
    context = json.loads(place.notes.read_text().splitlines()[0])["requestContext"]
    return bool(context.get("disconnectStatusCode") == 1000 and context.get("disconnectReason"))


def answers_a_failure_by_its_request(place: Place) -> bool:
    with connect(place.full) as socket:
        first, second = say(socket, {"action": "fail"}), say(socket, {"action": "fail"})
        same = first["connectionId"] == second["connectionId"]
        return bool(first["message"] == "Internal server error" and same and first["requestId"] != second["requestId"])


def answers_only_with_a_route_response(place: Place) -> bool:
    with connect(place.full) as socket:
        socket.send('{"action":"silent"}')
        return bool(event(socket)["requestContext"]["routeKey"] == "event")


def closes_what_is_larger_than_128_kib(place: Place) -> bool:
    return _closes(place, "x" * (129 * KIB), 1009)


def closes_a_frame_larger_than_32_kib(place: Place) -> bool:
    return _closes(place, "x" * (33 * KIB), 1009)


def closes_a_binary_message(place: Place) -> bool:
    return _closes(place, b"\x00", 1003)


def _closes(place: Place, message: str | bytes, code: int) -> bool:
    with connect(place.full, max_size=None) as socket:
        socket.send(message)
        try:
            socket.recv(timeout=seconds(3))
        except ConnectionClosed as closed:
            return closed.rcvd is not None and closed.rcvd.code == code
        except TimeoutError:
            pass
        return False


def posts_what_the_client_gets(place: Place) -> bool:
    with connect(place.full) as socket:
        id = event(socket)["requestContext"]["connectionId"]
        done = place.client.post_to_connection(ConnectionId=id, Data=b"posted")
        return bool(done["ResponseMetadata"]["HTTPStatusCode"] == 200 and socket.recv(timeout=seconds(5)) == "posted")


def posts_nothing_too(place: Place) -> bool:
    with connect(place.full) as socket:
        id = event(socket)["requestContext"]["connectionId"]
        place.client.post_to_connection(ConnectionId=id, Data=b"")
        return bool(socket.recv(timeout=seconds(3)) == "")


def tells_about_a_connection(place: Place) -> bool:
    with connect(place.full) as socket:
        id = event(socket)["requestContext"]["connectionId"]
        return bool(place.client.get_connection(ConnectionId=id)["Identity"]["SourceIp"] == "127.0.0.1")


def disconnects_with_1000(place: Place) -> bool:
    with connect(place.full) as socket:
        id = event(socket)["requestContext"]["connectionId"]
        status = place.client.delete_connection(ConnectionId=id)["ResponseMetadata"]["HTTPStatusCode"]
        try:
            socket.recv(timeout=seconds(3))
        except ConnectionClosed as closed:
            return bool(status == 204 and closed.rcvd is not None and closed.rcvd.code == 1000)
        return False


def posts_to_nobody_with_gone(place: Place) -> bool:
    api = place.client
    return name_of(lambda: api.post_to_connection(ConnectionId=UNKNOWN, Data=b"x")) == "GoneException"


def gets_nobody_with_gone(place: Place) -> bool:
    return name_of(lambda: place.client.get_connection(ConnectionId=UNKNOWN)) == "GoneException"


def disconnects_nobody_with_gone(place: Place) -> bool:
    return name_of(lambda: place.client.delete_connection(ConnectionId=UNKNOWN)) == "GoneException"


def refuses_an_id_that_is_none(place: Place) -> bool:
    try:
        place.client.get_connection(ConnectionId="not an id")
    except ClientError as error:
        return bool(error.response["ResponseMetadata"]["HTTPStatusCode"] == 400)
    return False


def refuses_to_post_more_than_128_kib(place: Place) -> bool:
    def post(id: str) -> str:
        return name_of(lambda: place.client.post_to_connection(ConnectionId=id, Data=b"x" * (129 * KIB)))

    if not place.sockets:
        return post(UNKNOWN) == "PayloadTooLargeException"
    with connect(place.full, max_size=None) as socket:
        return post(event(socket)["requestContext"]["connectionId"]) == "PayloadTooLargeException"


class Probe(NamedTuple):
    """needs: sockets, which moto has none of."""

    about: str
    run: Callable[[Place], bool]
    needs: bool = True


PROBES = (
    Probe("the stage is the path", enters_with_its_stage),
    Probe("without a `$connect` route everybody comes in", enters_without_a_connect_route),
    Probe("a status of `$connect` is that of the handshake", refuses_with_the_status_of_connect),
    Probe("no subprotocol, unless `$connect` answers with it", has_no_subprotocol_unless_connect_says_so),
    Probe("no route and no `$default`: Forbidden, and the client stays", finds_no_route_and_says_forbidden),
    Probe("`routeKey` of what finds no route is `$default`", has_default_as_the_key_of_what_finds_none),
    Probe("what is no JSON goes to `$default`", takes_what_is_no_json_to_default),
    Probe("MESSAGE events have no headers", sends_message_events_without_headers),
    Probe("`sourceIp` is the client's address", has_the_client_s_address_in_each_event),
    Probe("ids have 16 characters and end in `=`", has_ids_of_sixteen_characters),
    Probe("`disconnectStatusCode` and `disconnectReason`", says_how_a_client_left),
    Probe("a failure is answered, with the id of its request", answers_a_failure_by_its_request),
    Probe("no answer without a route response", answers_only_with_a_route_response),
    Probe("a message of more than 128 KiB closes with 1009", closes_what_is_larger_than_128_kib),
    Probe("a frame of more than 32 KiB closes with 1009", closes_a_frame_larger_than_32_kib),
    Probe("a binary message closes with 1003", closes_a_binary_message),
    Probe("`POST` 200, and the client has it", posts_what_the_client_gets),
    Probe("`POST` of nothing", posts_nothing_too),
    Probe("`GET` tells the address and the times", tells_about_a_connection),
    Probe("`DELETE` 204, and the client sees 1000", disconnects_with_1000),
    Probe("`POST` to nobody: `GoneException`", posts_to_nobody_with_gone, False),
    Probe("`GET` of nobody: `GoneException`", gets_nobody_with_gone, False),
    Probe("`DELETE` of nobody: `GoneException`", disconnects_nobody_with_gone, False),
    Probe("an id of another form: 400", refuses_an_id_that_is_none, False),
    Probe("`POST` of more than 128 KiB: `PayloadTooLargeException`", refuses_to_post_more_than_128_kib, False),
)


def outcome(probe: Probe, place: Place) -> str:
    """same, different, or nothing where there is nothing to try."""
    if probe.needs and not place.sockets:
        return "-"
    try:
        return "same" if probe.run(place) else "different"
    except Exception:  # whatever it does instead
        return "different"


# --------------------------------------------------------------------------------------------------------- the places

APP = """
import json, os
from freshet import Freshet, Refusal
bare = os.environ.get("BARE") == "1"
live = Freshet(dev=True)
gateway = live.gateway(stage="dev", limits="aws")

def event(event, context):
    return {"statusCode": 200, "body": json.dumps(event)}

def connect(event, context):
    return {"statusCode": int((event.get("queryStringParameters") or {}).get("refuse", 200))}

def note(event, context):
    with open(os.environ["NOTES"], "a") as notes:
        notes.write(json.dumps(event) + chr(10))
    return {"statusCode": 200}

def fail(event, context):
    raise ValueError

gateway.handler("event", event, response=True)
if not bare:
    gateway.handler("$connect", connect)
    gateway.handler("$disconnect", note)
    gateway.handler("$default", event, response=True)
    gateway.handler("fail", fail, response=True)
    gateway.handler("silent", event)
"""


@contextmanager
def freshet() -> Iterator[Place]:
    with tempfile.TemporaryDirectory() as folder:
        notes = Path(folder, "notes")
        Path(folder, "app.py").write_text(APP)
        with (
            serving("app:live", cwd=Path(folder), env={"NOTES": str(notes)}) as full,
            serving("app:live", cwd=Path(folder), env={"NOTES": str(notes), "BARE": "1"}) as bare,
        ):
            # A URL without the stage is that of a custom domain, which serverless-offline has alone.
            yield Place(full.ws(""), bare.ws(""), full.http("/dev"), notes)


HANDLERS = """
const fs = require("fs");
exports.event = async (event) => ({ statusCode: 200, body: JSON.stringify(event) });
exports.connect = async (event) => ({ statusCode: Number((event.queryStringParameters || {}).refuse || 200) });
exports.note = async (event) => {
  fs.appendFileSync(process.env.NOTES, JSON.stringify(event) + "\\n");
  return { statusCode: 200 };
};
exports.fail = async () => { throw new Error("failed"); };
"""
SERVICE = """
service: conformance
provider: { name: aws, runtime: nodejs20.x, stage: dev, region: us-east-1, environment: { NOTES: "%(notes)s" } }
plugins: [serverless-offline]
custom: { serverless-offline: { httpPort: %(http)d, websocketPort: %(ws)d, lambdaPort: %(lambda)d, host: 127.0.0.1 } }
functions:
"""
FULL = {
    "connect": "$connect",
    "note": "$disconnect",
    "event": "event",
    "default": "$default",
    "fail": "fail",
    "silent": "silent",
}


@contextmanager
def serverless_offline(packages: Path) -> Iterator[Place]:
    with tempfile.TemporaryDirectory(dir=packages) as folder:
        notes = Path(folder, "notes")
        with (
            _service(Path(folder, "full"), notes, FULL) as full,
            _service(Path(folder, "bare"), notes, {"event": "event"}) as bare,
        ):
            yield Place(
                f"ws://{HOST}:{full[0]}", f"ws://{HOST}:{bare[0]}", f"http://{HOST}:{full[0]}", notes, pid=full[1]
            )


@contextmanager
def _service(folder: Path, notes: Path, routes: dict[str, str]) -> Iterator[tuple[int, int]]:
    """Its port, and its process."""
    folder.mkdir()
    ports = {"http": free_port(), "ws": free_port(), "lambda": free_port()}
    text = SERVICE % {"notes": notes, **ports}
    for name, key in routes.items():
        handler = {"default": "event", "silent": "event"}.get(name, name)
        response = ", routeResponseSelectionExpression: $default" if name not in ("silent", "connect", "note") else ""
        text += f'  {name}: {{ handler: h.{handler}, events: [ {{ websocket: {{ route: "{key}"{response} }} }} ] }}\n'
    (folder / "serverless.yml").write_text(text)
    (folder / "h.js").write_text(HANDLERS)
    command = [str(folder.parent.parent / "node_modules" / ".bin" / "serverless"), "offline", "start"]
    environment = {**os.environ, "SLS_TELEMETRY_DISABLED": "1", "SLS_NOTIFICATIONS_MODE": "off", "CI": "1"}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, env=environment, start_new_session=True)
    try:
        wait_until(lambda: _enters(ports["ws"]), 60, f"serverless-offline: {folder / 'log'}")
        yield ports["ws"], process.pid
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _enters(port: int) -> bool:
    import socket

    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


@contextmanager
def moto() -> Iterator[Place]:
    from moto import mock_aws

    with mock_aws():
        yield Place("", "", "https://abc.execute-api.us-east-1.amazonaws.com/dev", Path(), sockets=False)


# ---------------------------------------------------------------------------------------------------------- the table


def column(place: Place) -> list[str]:
    return [outcome(probe, place) for probe in PROBES]


def table(columns: dict[str, list[str]]) -> str:
    rows = [["AWS", *columns], ["---"] * (len(columns) + 1)]
    rows += [[probe.about, *values] for probe, values in zip(PROBES, zip(*columns.values(), strict=True), strict=True)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def with_table(page: str, written: str) -> str:
    before, _, rest = page.partition(BEGIN)
    return f"{before}{BEGIN}{written}{END}{rest.partition(END)[2]}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serverless", type=Path)
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    columns: dict[str, list[str]] = {}
    with freshet() as place:
        columns["Freshet"] = column(place)
    if given.serverless:
        with serverless_offline(given.serverless) as place:
            columns["serverless-offline 14.8"] = column(place)
    with suppress(ImportError), moto() as place:
        columns["moto 5.2"] = column(place)
    written = table(columns)
    print(written)
    if given.write:
        PAGE.write_text(with_table(PAGE.read_text(), written))


if __name__ == "__main__":
    main()
