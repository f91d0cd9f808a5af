"""What `deploy/` says fits what Freshet is: its options, its paths, and how long it takes to end."""

import json
import os
import re
import shutil
import socket
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from typer.testing import CliRunner

from freshet import __version__
from freshet.cli import app
from freshet.config import load, parse
from tests.tools.need import ROOT, require
from tests.tools.patience import seconds, wait_until
from tests.tools.ports import HOST, free_port
from tests.tools.serving import Server

DEPLOY = ROOT / "deploy"
TIMING = parse({}).timing
LEAST = 5  # seconds more than draining takes
ENGINES = {"redis://:secret@redis:6379", "nats://freshet:secret@nats:4222"}


def documents(path: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((DEPLOY / path).read_text()))


def kubernetes(kind: str, name: str = "freshet") -> dict[str, Any]:
    every = documents("kubernetes/freshet.yaml")
    return next(each for each in every if (each["kind"], each["metadata"]["name"]) == (kind, name))


def pod() -> dict[str, Any]:
    spec: dict[str, Any] = kubernetes("Deployment")["spec"]["template"]["spec"]
    return spec


def seconds_of(text: str) -> float:
    number, unit = re.fullmatch(r"(\d+)(ms|s|m)?", text).groups()  # type: ignore[union-attr]
    return int(number) * {"ms": 0.001, "m": 60}.get(unit, 1)


def test_each_gives_a_server_longer_to_end_than_it_takes_to_move_its_clients() -> None:
    unit = (DEPLOY / "systemd/freshet.service").read_text()
    compose = documents("compose/docker-compose.yml")[0]
    hook = int(pod()["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][1])
    for grace in (
        float(re.search(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)[1]),  # type: ignore[index]
        seconds_of(compose["services"]["one"]["stop_grace_period"]),
        pod()["terminationGracePeriodSeconds"] - hook,
    ):
        assert grace >= TIMING.drain + LEAST


@pytest.mark.parametrize(
    ("file", "names"),
    [
        ("nginx/freshet.conf", ["proxy_read_timeout"]),
        ("compose/nginx.conf", ["proxy_read_timeout"]),
        ("haproxy/haproxy.cfg", ["timeout client", "timeout server", "timeout tunnel"]),
        ("kubernetes/freshet.yaml", ["nginx.ingress.kubernetes.io/proxy-read-timeout:"]),
    ],
)
def test_no_proxy_ends_a_quiet_connection_before_its_heartbeat(file: str, names: list[str]) -> None:
    for name in names:
        found = re.search(rf'{re.escape(name)}\s+"?(\d+\w?)', (DEPLOY / file).read_text())
        assert found, name
        assert seconds_of(found[1]) > TIMING.ping_interval + TIMING.pong_timeout


@pytest.mark.parametrize("file", sorted(DEPLOY.rglob("freshet.toml")), ids=lambda it: it.parent.name)
def test_the_options_are_such(file: Path) -> None:
    assert load(file, {}).channels
    assert not {"secret", "key"} & set(tomllib.loads(file.read_text()))


def test_the_environment_holds_options_and_no_secret_stands_in_a_file() -> None:
    service = documents("compose/docker-compose.yml")[0]["services"]["one"]
    container = pod()["containers"][0]
    for names in (service["environment"], {each["name"] for each in container["env"]}):
        assert set(names) == {"FRESHET_ENGINE", "FRESHET_SECRET", "FRESHET_API_KEY", "FRESHET_METRICS_KEY"}
    for engine in ENGINES:
        assert load(None, {"FRESHET_ENGINE": engine}).engine == engine
    assert all("secretKeyRef" in each["valueFrom"] for each in container["env"])
    assert all(value.startswith("${") for value in service["environment"].values())


def test_the_command_lines_are_such() -> None:
    unit = (DEPLOY / "systemd/freshet.service").read_text()
    lines = [
        documents("compose/docker-compose.yml")[0]["services"]["one"]["command"],
        pod()["containers"][0]["args"],
        re.search(r"^ExecStart=\S+/freshet (.+)$", unit, re.MULTILINE)[1].split(),  # type: ignore[index]
        ["serve", "--host", "0.0.0.0"],
    ]
    assert '["serve", "--host", "0.0.0.0"]' in (DEPLOY / "Dockerfile").read_text()
    known = CliRunner().invoke(app, ["serve", "--help"], env={"COLUMNS": "200"}).output
    for command, *options in lines:
        assert command == "serve"
        assert all(option in known for option in options if option.startswith("--"))


def test_probes_ask_where_health_is() -> None:
    container = pod()["containers"][0]
    paths = {name: container[name]["httpGet"]["path"] for name in ("startupProbe", "readinessProbe", "livenessProbe")}
    assert paths == {
        "startupProbe": "/health/ready",
        "readinessProbe": "/health/ready",
        "livenessProbe": "/health/live",
    }
    assert "/health/live" in (DEPLOY / "Dockerfile").read_text()
    for file in ("haproxy/haproxy.cfg", "caddy/Caddyfile"):
        assert "/health/ready" in (DEPLOY / file).read_text()


def test_names_and_ports_of_the_manifests_fit() -> None:
    labels = kubernetes("Deployment")["spec"]["template"]["metadata"]["labels"]
    assert kubernetes("Deployment")["spec"]["selector"]["matchLabels"] == labels
    for service in (kubernetes("Service"), kubernetes("Service", "freshet-internal")):
        assert service["spec"]["selector"] == labels
    assert kubernetes("NetworkPolicy")["spec"]["podSelector"]["matchLabels"] == labels
    assert kubernetes("PodDisruptionBudget")["spec"]["selector"]["matchLabels"] == labels
    public, internal = pod()["containers"][0]["ports"]
    assert kubernetes("Service")["spec"]["ports"][0]["targetPort"] == public["name"]
    assert kubernetes("Service", "freshet-internal")["spec"]["ports"][0]["targetPort"] == internal["name"]
    volumes = {each["name"] for each in pod()["volumes"]}
    assert volumes == {each["name"] for each in pod()["containers"][0]["volumeMounts"]}
    assert documents("kubernetes/kustomization.yaml")[0]["images"][0]["newTag"] == __version__
    user = re.search(r"--uid (\d+)", (DEPLOY / "Dockerfile").read_text())
    assert user
    assert int(user[1]) == pod()["securityContext"]["runAsUser"]


def test_nginx_passes_on_in_compose_as_it_does_elsewhere() -> None:
    def passed(file: str) -> set[str]:
        text = (DEPLOY / file).read_text()
        return set(re.findall(r"^\s+(proxy_\w+ [^;]+);", text, re.MULTILINE))

    assert passed("compose/nginx.conf") == passed("nginx/freshet.conf")


def test_what_is_copied_into_the_image_is_there_and_nothing_else_is_sent() -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    copied = [name for line in re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE) for name in line.split()]
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    assert sorted(copied) == sorted(allowed)
    assert all((ROOT / name).exists() for name in copied)


def test_the_tools_of_the_field_accept_them() -> None:
    """kubectl and systemd-analyze are not always there; where they are, they are asked."""
    if shutil.which("kubectl"):
        done = subprocess.run(["kubectl", "kustomize", DEPLOY / "kubernetes"], capture_output=True, check=True)
        assert f"image: freshet:{__version__}".encode() in done.stdout
    if shutil.which("systemd-analyze"):
        unit = DEPLOY / "systemd/freshet.service"
        done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, check=False)
        said = [line for line in done.stderr.decode().splitlines() if "freshet.service" in line]
        assert all("freshet is not executable" in line for line in said)
        command = ["systemd-analyze", "security", "--offline=true", "--threshold=20", unit]  # of 100
        done = subprocess.run(command, capture_output=True, check=False)
        assert done.returncode == 0, done.stdout.decode()[-500:]


# ---------------------------------------------------------------------------------------------- closed as it is shipped


def test_images_are_named_by_digest_and_what_builds_ours_is_pinned() -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    images = re.findall(r"^FROM (\S+)", text, re.MULTILINE)
    services = documents("compose/docker-compose.yml")[0]["services"].values()
    images += [service["image"] for service in services if "image" in service]
    assert len(images) == 7
    for image in images:
        assert re.fullmatch(r"[a-z/]+:[\w.-]+@sha256:[0-9a-f]{64}", image), image
    for line in re.findall(r"pip (?:install|wheel) .+", text):
        assert "--require-hashes" in line or "--no-deps" in line, line
    assert "--no-build-isolation" in text
    pinned = (ROOT / "requirements/build.txt").read_text()
    needed = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    assert all(f"{re.split('[<>=]', each)[0]}==" in pinned for each in needed)


def test_the_ingress_leads_to_no_api_and_no_metrics() -> None:
    """They are at a port of their own, to which no Ingress leads, and which few may reach."""
    rules = kubernetes("Ingress")["spec"]["rules"]
    backends = [path["backend"]["service"]["name"] for rule in rules for path in rule["http"]["paths"]]
    assert backends == ["freshet"]
    assert kubernetes("Service")["spec"]["ports"] == [{"name": "http", "port": 80, "targetPort": "http"}]
    for file in ("kubernetes", "compose"):
        internal = load(DEPLOY / file / "freshet.toml", {}).internal
        assert internal.port == pod()["containers"][0]["ports"][1]["containerPort"] == 9000
        assert internal.host == "0.0.0.0"
    policy = kubernetes("NetworkPolicy")["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert {rule["ports"][0]["port"]: len(rule["from"]) for rule in policy["ingress"]} == {"http": 1, "internal": 2}
    prometheus = documents("prometheus/prometheus.yml")[0]["scrape_configs"][0]["static_configs"][0]["targets"]
    assert all(target.endswith(":9000") for target in prometheus)


@pytest.mark.parametrize("file", ["kubernetes", "compose"])
def test_a_server_with_the_shipped_options_answers_operators_at_that_port_alone(
    file: str, serve: Callable[..., Server]
) -> None:
    keys = {"FRESHET_SECRET": "s" * 40, "FRESHET_API_KEY": "api", "FRESHET_METRICS_KEY": "metrics"}
    port = free_port()
    place = {"FRESHET_INTERNAL__PORT": str(port), "FRESHET_INTERNAL__HOST": HOST}
    server = serve("--config", str(DEPLOY / file / "freshet.toml"), env={**keys, **place})
    key, bearer = {"X-API-Key": "api"}, {"Authorization": "Bearer metrics"}
    assert httpx.post(server.http("/api/info"), json={}, headers=key).status_code == 404
    assert httpx.get(server.http("/metrics"), headers=bearer).status_code == 404
    assert httpx.post(f"http://{HOST}:{port}/api/info", json={}, headers=key).status_code == 200
    assert httpx.get(f"http://{HOST}:{port}/metrics", headers=bearer).status_code == 200


@pytest.mark.parametrize("secret", ["a password", "1234567890", "7e10"])
def test_brokers_of_compose_want_a_password(secret: str, tmp_path: Path) -> None:
    services = documents("compose/docker-compose.yml")[0]["services"]
    assert "--requirepass" in services["redis"]["command"]
    assert "ports" not in services["redis"]
    assert "ports" not in services["nats"]
    text = (DEPLOY / "compose/nats.conf").read_text().replace("/data", str(tmp_path))
    (tmp_path / "nats.conf").write_text(text)
    port, password = free_port(), services["nats"]["environment"]["NATS_PASSWORD"]
    password = password.replace("${NATS_PASSWORD:?}", secret)
    command = [require("nats-server"), "--config", str(tmp_path / "nats.conf"), "-a", HOST, "-p", str(port)]
    with subprocess.Popen(command, env={**os.environ, "NATS_PASSWORD": password}, stderr=subprocess.DEVNULL) as broker:
        try:
            wait_until(lambda: _listens(port), 10, "the broker")
            assert _answer(port, user="freshet", **{"pass": secret}) == b"PONG"
            for wrong in ({}, {"user": "freshet", "pass": "guess"}, {"user": "root", "pass": secret}):
                assert _answer(port, **wrong) == b"-ERR 'Authorization Violation'"
        finally:
            broker.terminate()


def _answer(port: int, **login: str) -> bytes:
    """What the broker says to a client: `PONG`, or an error."""
    with socket.create_connection((HOST, port), seconds(5)) as end, end.makefile("rb") as lines:
        assert lines.readline().startswith(b"INFO ")
        end.sendall(f"CONNECT {json.dumps({'verbose': False, **login})}\r\nPING\r\n".encode())
        return lines.readline().strip()


def _listens(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), 1).close()
    except OSError:
        return False
    return True


def test_the_service_has_bounds() -> None:
    unit = (DEPLOY / "systemd/freshet.service").read_text()
    for line in ("MemoryMax=4G", "SystemCallFilter=@system-service", "SystemCallFilter=~@privileged @resources"):
        assert f"\n{line}\n" in unit
