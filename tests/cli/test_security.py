"""`freshet check --security`: each thing that a configuration may leave open, and what is closed as it is shipped."""

import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from freshet.cli import app
from freshet.cli.security import Finding, findings
from freshet.config import parse
from tests.tools.certificates import certify
from tests.tools.need import ROOT

SECRET = "7f9c2ba4e88f827d616045507605853ed73b8093f6efbc88eb1a6eacfa66ef26"
KEY, OTHER = SECRET[:32], SECRET[32:]
HOOK = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
WEAK = "whsec_" + "A" * 32
RULE = {"match": "news"}


def found(options: dict[str, object], host: str = "127.0.0.1", **environment: str) -> dict[str, str]:
    """Levels, by option."""
    every = findings(parse(options), {"FRESHET_SECRET": SECRET, **environment}, host)
    assert all(finding.why.endswith(".") for finding in every)
    return {finding.option: finding.level for finding in reversed(every)}  # what is open comes first


@pytest.mark.parametrize(
    ("options", "environment", "option"),
    [
        ({"tokens": {"anonymous": True}}, {}, "tokens.anonymous"),
        ({}, {"FRESHET_SECRET": "short"}, "tokens.secret"),
        ({}, {"FRESHET_SECRET": "0123" * 16}, "tokens.secret"),
        ({"api": {"anonymous": True}}, {}, "api.anonymous"),
        ({"metrics": {"anonymous": True}}, {}, "metrics.anonymous"),
        ({"admin": {"anonymous": True}}, {}, "admin.anonymous"),
        ({"gateway": {"auth": "none"}}, {}, "gateway.auth"),
        ({"gateway": {"keys": [{"id": "a", "secret": "letmein"}]}}, {}, "gateway.keys[0].secret"),
        ({"gateway": {"keys": [{"id": "a", "secret_env": "S"}]}}, {"S": "a" * 64}, "gateway.keys[0].secret"),
        ({"channels": [{**RULE, "manage": "client"}]}, {}, "channels[0].manage"),
        ({}, {"FRESHET_ADMIN_KEY": "letmein"}, "admin.key"),
        ({}, {"FRESHET_ADMIN_KEY": KEY, "FRESHET_API_KEY": KEY}, "api.key"),
        ({}, {"FRESHET_API_KEY": "letmein"}, "api.key"),
        ({}, {"FRESHET_METRICS_KEY": "a" * 64}, "metrics.key"),
        ({}, {"FRESHET_API_KEY": KEY, "FRESHET_METRICS_KEY": KEY}, "api.key"),
        ({}, {"FRESHET_API_KEY": SECRET}, "api.key"),
        ({"origins": ["*"]}, {}, "origins"),
        ({"channels": [RULE, {"match": "*"}]}, {}, "channels[1].subscribe"),
        ({"channels": [{**RULE, "publish": "client"}]}, {}, "channels[0].publish"),
        ({"rates": {"client": {"rate": 0, "burst": 1}}}, {}, "rates.client"),
        ({"rates": {"address": {"rate": 0, "burst": 1}}}, {}, "rates.address"),
        ({"limits": {"connects_per_second": 0}}, {}, "limits.connects_per_second"),
        ({"rates": {"requests": {"rate": 0, "burst": 1}}}, {}, "rates.requests"),
        ({"limits": {"sessions_per_user": 0}}, {}, "limits.sessions_per_user"),
        ({"limits": {"sessions_per_address": 0}}, {}, "limits.sessions_per_address"),
        ({"tokens": {"jwks": "https://issuer.example/keys"}}, {}, "tokens.audience"),
        ({"webhooks": {"url": "http://app.example.org/hook"}}, {"FRESHET_WEBHOOK_SECRET": HOOK}, "webhooks.url"),
        ({"webhooks": {"url": "https://app/"}}, {"FRESHET_WEBHOOK_SECRET": f"{HOOK} {WEAK}"}, "webhooks.secret"),
        ({"engine": "redis://redis:6379"}, {}, "engine"),
        ({"engine": "redis+sentinel://10.0.0.1,10.0.0.2/main"}, {}, "engine"),
        ({"engine": "nats://127.0.0.1,nats.example.org:4222"}, {}, "engine"),
    ],
)
def test_what_somebody_can_misuse_is_open(options: dict[str, object], environment: dict[str, str], option: str) -> None:
    assert found(options, **environment)[option] == "open"


@pytest.mark.parametrize(
    ("options", "environment", "option"),
    [
        ({}, {"FRESHET_SECRET": ""}, "tokens.secret"),
        ({"tokens": {"secret": SECRET}}, {}, "tokens.secret"),
        ({"api": {"key": KEY}}, {}, "api.key"),
        ({"metrics": {"key": KEY}}, {}, "metrics.key"),
        ({"admin": {"key": KEY}}, {}, "admin.key"),
        ({"gateway": {"keys": [{"id": "a", "secret": KEY}]}}, {}, "gateway.keys[0].secret"),
        ({}, {"FRESHET_ADMIN_KEY": KEY}, "internal.port"),
        ({}, {"FRESHET_API_KEY": KEY}, "internal.port"),
        ({"origins": ["http://www.example.org"]}, {}, "origins"),
        ({}, {}, "hosts"),
        ({"hosts": ["*"]}, {}, "hosts"),
        ({"channels": [{**RULE, "read": "client"}]}, {}, "channels[0].read"),
        ({"internal": {"port": 9000, "host": "0.0.0.0"}}, {}, "internal.host"),
        ({"engine": "redis://:secret@redis:6379"}, {}, "engine"),
        ({"engine": "redis://localhost"}, {}, "rates.scope"),
        ({"limits": {"log_memory": 0}}, {}, "limits.log_memory"),
        ({"tokens": {"jwks": "https://issuer.example/keys", "audience": "us"}}, {}, "tokens.issuer"),
        ({}, {}, "tokens.require_expiry"),
        ({"webhooks": {"url": "https://app/", "secret": HOOK}}, {}, "webhooks.secret"),
        ({"engine": "nats://token@nats.example.org"}, {}, "engine"),
    ],
)
def test_what_is_right_in_some_places_is_a_note(
    options: dict[str, object], environment: dict[str, str], option: str
) -> None:
    assert found(options, **environment)[option] == "note"


@pytest.mark.parametrize(
    "options",
    [
        {"engine": "redis://localhost"},
        {"engine": "redis://127.0.0.1,[::1]:7000"},
        {"engine": "rediss://:secret@redis"},
        {"engine": "tls://user:secret@nats"},
        {"engine": "nats://nats.example.org?creds=/etc/freshet.creds&ssl_ca_certs=/etc/ca.pem"},
        {"engine": "sqlite:///freshet.db"},
        {"origins": ["https://example.org", "http://localhost:5173"]},
        {"channels": [{"match": "*", "subscribe": "token"}, {**RULE, "publish": "subscriber"}]},
        {"internal": {"port": 9000}},
        {"gateway": {"keys": [{"id": "a", "secret_env": "FRESHET_API_KEY"}]}},
        {"webhooks": {"url": "https://app.example.org/hook"}},
        {"webhooks": {"url": "http://127.0.0.1:5000/hook"}},
        {"tokens": {"jwks": "https://i.example/keys", "audience": "us", "issuer": "i", "max_lifetime": 3600}},
    ],
)
def test_what_is_closed_is_not_mentioned(options: dict[str, object]) -> None:
    closed = {
        "hosts": ["example.org"],
        "internal": {"port": 9000},
        "rates": {"scope": "cluster"},
        "tokens": {"require_expiry": True},
        **options,
    }
    environment = {"FRESHET_API_KEY": KEY, "FRESHET_METRICS_KEY": OTHER, "FRESHET_WEBHOOK_SECRET": HOOK}
    assert set(found(closed, **environment)) == {"tls.certificate"}


def test_without_tls_it_matters_where_the_server_listens() -> None:
    assert found({}, "127.0.0.1")["tls.certificate"] == "note"
    assert found({}, "0.0.0.0")["tls.certificate"] == "open"
    assert found({}, "192.168.0.7")["tls.certificate"] == "open"
    assert found({}, "::1")["tls.certificate"] == "note"


def test_whose_word_on_addresses_is_believed_matters_where_a_proxy_may_be() -> None:
    assert found({}, "0.0.0.0")["FORWARDED_ALLOW_IPS"] == "note"
    assert "FORWARDED_ALLOW_IPS" not in found({}, "127.0.0.1")
    named, anybody = ({"FORWARDED_ALLOW_IPS": it} for it in ("10.0.0.1", "*"))
    assert "FORWARDED_ALLOW_IPS" not in {it.option for it in findings(parse({}), named, "0.0.0.0")}
    assert ("open", "FORWARDED_ALLOW_IPS") in {it[:2] for it in findings(parse({}), anybody, "127.0.0.1")}


def test_a_key_that_others_can_read_is_open(tmp_path: Path) -> None:
    certificate, key = certify(tmp_path)
    options = {"tls": {"certificate": str(certificate), "key": str(key)}}
    key.chmod(0o640)
    assert found(options)["tls.key"] == "open"
    key.chmod(stat.S_IRUSR | stat.S_IWUSR)
    assert not {"tls.key", "tls.certificate"} & set(found(options, "0.0.0.0"))


def test_what_is_open_comes_first() -> None:
    levels = [each.level for each in findings(parse({"origins": ["*"], "channels": [{"match": "*"}]}), {}, "0.0.0.0")]
    assert levels == sorted(levels, key=["open", "note"].index)
    assert isinstance(findings(parse({}), {})[0], Finding)


# -------------------------------------------------------------------------------------------------- the command line


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def check(folder: Path, toml: str, *flags: str, **environment: str) -> Result:
    (folder / "freshet.toml").write_text(toml)
    return CliRunner().invoke(app, ["check", *flags], env={"FRESHET_SECRET": SECRET, **environment})


def test_it_says_what_is_open_and_fails_only_if_asked_to(folder: Path) -> None:
    for flags, code in ((["--security"], 0), (["--security", "--strict"], 1), (["--strict"], 1)):
        done = check(folder, 'origins = ["*"]', *flags)
        assert done.exit_code == code
        text = " ".join(done.stdout.split())
        assert "1 open, 3 to look at" in text
        assert 'open origins: "*" Pages of any site connect from your users' in text
        assert SECRET not in text


def test_what_is_meant_to_be_open_can_be_accepted(folder: Path) -> None:
    toml = 'origins = ["*"]\n[[channels]]\nmatch = "a"\npublish = "client"'
    assert check(folder, toml, "--strict", "--accept", "origins").exit_code == 1
    done = check(folder, toml, "--strict", "--accept", "origins", "--accept", "channels[0].publish")
    assert done.exit_code == 0
    assert "0 open" in done.stdout


def test_notes_alone_do_not_fail(folder: Path) -> None:
    assert check(folder, "", "--strict").exit_code == 0
    assert check(folder, "", "--strict", "--host", "0.0.0.0").exit_code == 1


def test_files_of_tls_that_serve_would_not_take_are_a_mistake(folder: Path) -> None:
    done = check(folder, '[tls]\ncertificate = "none.pem"')
    assert done.exit_code == 2
    assert "tls.certificate: none.pem cannot be read" in " ".join(done.stderr.split())


@pytest.mark.parametrize("file", sorted((ROOT / "deploy").rglob("freshet.toml")), ids=lambda it: it.parent.name)
def test_the_shipped_configurations_leave_nothing_open(folder: Path, file: Path) -> None:
    done = check(folder, file.read_text(), "--strict")
    assert done.exit_code == 0, done.stdout
