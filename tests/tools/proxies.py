"""The reverse proxies as `deploy/` configures them, with ports and certificates of the tests' own."""

import os
import ssl
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.tools.certificates import certify
from tests.tools.need import ROOT, require
from tests.tools.patience import seconds, wait_until
from tests.tools.ports import HOST, free_port
from tests.tools.serving import GRACE, START

NAMES = ("nginx", "haproxy", "caddy")
DEPLOY = ROOT / "deploy"
NGINX = """
daemon off;
pid {folder}/nginx.pid;
error_log stderr;
worker_processes 1;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/freshet.conf;
}}
"""
# It would wait for connections that stay open for as long as they do.
CADDY = "{\n\tadmin off\n\tgrace_period 1s\n\tauto_https disable_redirects\n\tskip_install_trust\n\tlog {\n"


@contextmanager
def proxied(name: str, nodes: Sequence[int], folder: Path) -> Iterator[tuple[str, ssl.SSLContext]]:
    """Run a proxy before the ports of two nodes; gives its `host:port` and what trusts it."""
    port = free_port()
    certificate, key = certify(folder)
    command = {"nginx": _nginx, "haproxy": _haproxy, "caddy": _caddy}[name](folder, port, certificate, key, nodes)
    log = folder / f"{name}.log"
    with log.open("wb") as output:
        env = {**os.environ, "HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=env)
    trust = ssl.create_default_context(cafile=str(certificate))
    try:
        wait_until(lambda: _answers(process, port, trust, log), START, f"{name} to answer")
        yield f"{HOST}:{port}", trust
    finally:
        process.terminate()
        try:
            process.wait(seconds(GRACE))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _answers(process: subprocess.Popen[bytes], port: int, trust: ssl.SSLContext, log: Path) -> bool:
    """A node, through it."""
    if process.poll() is not None:
        raise RuntimeError(log.read_text(errors="replace"))
    try:
        return httpx.get(f"https://{HOST}:{port}/health/ready", verify=trust, timeout=seconds(1)).status_code == 200
    except httpx.TransportError:
        return False


def _of(text: str, nodes: Sequence[int], changes: dict[str, str]) -> str:
    """What is shipped, with other ports and places. Each must be there."""
    changes = {"127.0.0.1:8001": f"{HOST}:{nodes[0]}", "127.0.0.1:8002": f"{HOST}:{nodes[1]}", **changes}
    for old, new in changes.items():
        assert old in text, old
        text = text.replace(old, new)
    return text


def _nginx(folder: Path, port: int, certificate: Path, key: Path, nodes: Sequence[int]) -> list[str]:
    changes = {
        "listen 443": f"listen {HOST}:{port}",
        "/etc/ssl/live.example.org.pem": str(certificate),
        "/etc/ssl/live.example.org.key": str(key),
        "/var/log/nginx/": f"{folder}/",
    }
    (folder / "freshet.conf").write_text(_of((DEPLOY / "nginx/freshet.conf").read_text(), nodes, changes))
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder))
    return [require("nginx"), "-c", str(folder / "nginx.conf"), "-p", str(folder)]


def _haproxy(folder: Path, port: int, certificate: Path, key: Path, nodes: Sequence[int]) -> list[str]:
    both = folder / "both.pem"
    both.write_text(certificate.read_text() + key.read_text())
    changes = {
        "bind :443": f"bind {HOST}:{port}",
        "/etc/ssl/live.example.org.pem": str(both),
        "maxconn 100000": "maxconn 2000",
    }
    (folder / "haproxy.cfg").write_text(_of((DEPLOY / "haproxy/haproxy.cfg").read_text(), nodes, changes))
    return [require("haproxy"), "-db", "-f", str(folder / "haproxy.cfg")]


def _caddy(folder: Path, port: int, certificate: Path, key: Path, nodes: Sequence[int]) -> list[str]:
    site = f"https://{HOST}:{port} {{\n\ttls {certificate} {key}\n"
    changes = {"live.example.org {\n": site, "{\n\tlog {\n": CADDY}
    (folder / "Caddyfile").write_text(_of((DEPLOY / "caddy/Caddyfile").read_text(), nodes, changes))
    return [require("caddy"), "run", "--adapter", "caddyfile", "--config", str(folder / "Caddyfile")]
