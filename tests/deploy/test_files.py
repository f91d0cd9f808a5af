"""What `deploy/` says fits what Freshet is: its options, its paths, and how long it takes to end."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from freshet import __version__
from freshet.cli import app
from freshet.config import load, parse
from tests.tools.need import ROOT

DEPLOY = ROOT / "deploy"
TIMING = parse({}).timing
LEAST = 5  # seconds more than draining takes
ENGINES = {"redis://:secret@redis:6379", "nats://nats:4222"}


def documents(path: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((DEPLOY / path).read_text()))


def kubernetes(kind: str) -> dict[str, Any]:
    return next(each for each in documents("kubernetes/freshet.yaml") if each["kind"] == kind)


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
    assert kubernetes("Service")["spec"]["selector"] == labels
    assert kubernetes("PodDisruptionBudget")["spec"]["selector"]["matchLabels"] == labels
    assert kubernetes("Service")["spec"]["ports"][0]["targetPort"] == pod()["containers"][0]["ports"][0]["name"]
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
