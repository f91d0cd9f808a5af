"""The configuration: where options come from, and how a mistake is named."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.pretty import pretty_repr

from freshet.config import (
    KIB,
    Config,
    Limits,
    Option,
    api_key_of,
    develop,
    load,
    metrics_key_of,
    parse,
    reference,
    secret_of,
)
from freshet.errors import ConfigError


def test_a_flag_comes_before_the_environment_before_the_file_before_the_default(tmp_path: Path) -> None:
    path = tmp_path / "freshet.toml"
    path.write_text("[limits]\noutbox = 2048\nfragments = 7\nbacklog = 9\n")
    environment = {"FRESHET_LIMITS__OUTBOX": "4096", "FRESHET_LIMITS__FRAGMENTS": "8"}
    limits = load(path, environment, {"limits.outbox": 8192}).limits
    assert (limits.outbox, limits.fragments, limits.backlog, limits.channel_length) == (8192, 8, 9, 255)


def test_a_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "freshet.toml"
    path.write_text("[limits]\noutbox = 2048\n", "utf-8-sig")
    assert load(path, {}).limits.outbox == 2048


def test_a_key_is_without_the_white_space_that_no_header_could_have() -> None:
    environment = {"FRESHET_API_KEY": "of the api\n", "FRESHET_METRICS_KEY": " of the metrics\r\n"}
    assert api_key_of(Config(), environment) == "of the api"
    assert metrics_key_of(Config(), environment) == "of the metrics"
    assert api_key_of(Config(), {"FRESHET_API_KEY": "\n"}) is None


def test_the_environment_has_lists_switches_and_tables() -> None:
    config = load(
        None,
        {
            "FRESHET_ORIGINS": "https://a.example, https://b.example",
            "FRESHET_PERSONAL_CHANNELS": "true",
            "FRESHET_CHANNELS": '[{"match": "a", "history": {"size": 1, "ttl": 2}}]',
        },
    )
    assert config.origins == ["https://a.example", "https://b.example"]
    assert config.personal_channels
    assert config.channels[0].history is not None


@pytest.mark.parametrize(
    ("toml", "path", "says"),
    [
        ("chanels = []", "chanels", "Did you mean 'channels'"),
        ("[limits]\noutboxx = 1", "limits.outboxx", "Allowed: message_size"),
        ("[[channels]]\nmatch = 'a'\nhistory = {size = 0, ttl = 1}", "channels[0].history.size", "1 publication"),
        ("[[channels]]\nmatch = 'a'\nhistory = {size = 1, ttl = 0}", "channels[0].history.ttl", "more than 0"),
        ("[[channels]]\nmatch = 'a'\nhistory = {size = 1}", "channels[0].history", "ttl"),
        ("[[channels]]\nmatch = 'a'\npublish = 'all'", "channels[0].publish", "nobody, token, subscriber, client"),
        ("[[channels]]\nmatch = 'a'\njoin_leave = true", "channels[0].join_leave", "presence = true"),
        ("[[channels]]\npresence = true", "channels[0]", "match"),
        ("[limits]\noutbox = 'big'", "limits.outbox", "Expected an integer"),
        ("[limits]\noutbox = 1", "limits.outbox", ">= 1024"),
        ("[tokens]\nalgorithms = ['none']", "tokens.algorithms[0]", "HS256, HS384, HS512"),
        ("[[channels]]\nmatch = 'a'\nhistory = {size = 1, ttl = nan}", "channels[0].history.ttl", "finite"),
        ("[[channels]]\nmatch = 'a'\nhistory = {size = 1, ttl = inf}", "channels[0].history.ttl", "finite"),
        ("[timing]\nconnect_timeout = inf", "timing.connect_timeout", "finite"),
        ("[tokens]\nleeway = nan", "tokens.leeway", ""),
        ("origins = ['https://a.example', 'b.example']", "origins[1]", "https://*.example.org"),
        ("origins = 'https://a.example'", "origins", "a list"),
    ],
)
def test_a_mistake_is_named_with_its_path_and_what_is_allowed(tmp_path: Path, toml: str, path: str, says: str) -> None:
    file = tmp_path / "freshet.toml"
    file.write_text(toml)
    with pytest.raises(ConfigError) as mistake:
        load(file, {})
    assert mistake.value.path == path
    assert says in mistake.value.message


def test_a_file_that_is_no_toml_is_named_with_line_and_column(tmp_path: Path) -> None:
    file = tmp_path / "freshet.toml"
    file.write_text("engine = \n")
    with pytest.raises(ConfigError, match=r"freshet\.toml.*line 1, column"):
        load(file, {})
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path / "missing.toml", {})


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("FRESHET_TOKENS__SECRE", "x", "tokens.secret"),
        ("FRESHET_PERSONAL_CHANNELS", "maybe", "true or false"),
        ("FRESHET_LIMITS__OUTBOX", "many", "JSON"),
        ("FRESHET_CHANNELS__MATCH", "a", "no such option"),
        ("FRESHET_ENGINE__X", "a", "no such option"),
        ("FRESHET_", "a", "no such option"),
        ("FRESHET_CHANNELS", "[" * 100_000, "JSON"),
    ],
)
def test_a_mistake_in_the_environment_is_named_by_its_variable(name: str, value: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as mistake:
        load(None, {name: value})
    assert mistake.value.path == name


def test_a_secret_is_in_no_representation() -> None:
    config = parse({"tokens": {"secret": "hunter2"}})
    assert "hunter2" not in repr(config)
    assert secret_of(config, {}) == "hunter2"
    assert secret_of(Config(), {"FRESHET_SECRET": "from outside"}) == "from outside"
    assert secret_of(Config(), {}) is None


def test_dev_opens_everything_but_leaves_given_rules_alone() -> None:
    opened = develop(Config())
    assert opened.tokens.anonymous
    assert [rule.match for rule in opened.channels] == ["*"]
    given = parse({"channels": [{"match": "a"}]})
    assert develop(given).channels == given.channels


def test_every_option_has_a_line_of_documentation() -> None:
    options = reference()
    assert {"engine", "tokens.secret", "channels[].match", "limits.outbox"} <= {option.path for option in options}
    assert all(option.doc for option in options)


@pytest.mark.parametrize(
    "option", [option for option in reference() if "[]" not in option.path], ids=lambda it: it.path
)
def test_each_option_can_come_from_the_environment_and_is_checked_there(option: Option) -> None:
    name = "FRESHET_" + option.path.replace(".", "__").upper()
    default = json.loads(option.default)
    text = "" if default is None else default if isinstance(default, str) else option.default
    config: Any = load(None, {name: text})
    for part in option.path.split("."):
        config = getattr(config, part)
    assert msgspec.to_builtins(config) == (default if default is not None else "")
    if option.type in ("int", "float", "bool"):
        with pytest.raises(ConfigError):
            load(None, {name: "neither"})


@pytest.mark.parametrize("level", ["flag", "environment", "file", "default"])
@pytest.mark.parametrize(
    ("path", "values"),
    [
        ("engine", {"flag": "a://", "environment": "b://", "file": "c://", "default": "memory://"}),
        ("limits.outbox", {"flag": 4096, "environment": 5000, "file": 6000, "default": 1_048_576}),
        ("websocket.compression", {"flag": True, "environment": True, "file": True, "default": False}),
        ("timing.ping_interval", {"flag": 31.5, "environment": 32.5, "file": 33.5, "default": 25}),
    ],
)
def test_each_source_comes_before_the_ones_behind_it(
    tmp_path: Path, level: str, path: str, values: dict[str, Any]
) -> None:
    order = ["flag", "environment", "file", "default"]
    given = order[order.index(level) :]
    file = tmp_path / "freshet.toml"
    table, _, name = path.rpartition(".")
    line = f"{name} = {json.dumps(values['file'])}\n"
    file.write_text((f"[{table}]\n{line}" if table else line) if "file" in given else "")
    variable = "FRESHET_" + path.replace(".", "__").upper()
    value = values["environment"]
    text = value if isinstance(value, str) else json.dumps(value)
    environment = {variable: text} if "environment" in given else {}
    found: Any = load(file, environment, {path: values["flag"]} if "flag" in given else {})
    for part in path.split("."):
        found = getattr(found, part)
    assert found == values[level]


@pytest.mark.parametrize("tree", [{"tokens": 5}, {"limits": []}, {"channels": [5]}, {"channels": 5}, {"timing": "x"}])
def test_a_table_that_is_something_else_is_named(tree: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as mistake:
        parse(tree)
    assert mistake.value.path.startswith(next(iter(tree)))
    assert "Expected" in mistake.value.message


def test_a_secret_is_shown_neither_by_the_whole_nor_by_its_part() -> None:
    config = parse({"tokens": {"secret": "hunter2"}})
    for shown in (repr(config.tokens), str(config), f"{config}", f"{config.tokens!s}"):
        assert "hunter2" not in shown


def test_what_is_no_option_in_the_environment_but_has_another_prefix_is_left_alone() -> None:
    assert load(None, {"PATH": "/bin", "FRESHE_X": "1", "freshet_x": "1"}) == Config()


@pytest.mark.parametrize("origin", ["example.org", "null", "https://", "https://a/b", "https://a b", "https://a.*", ""])
def test_an_origin_that_no_browser_sends_is_named(origin: str) -> None:
    with pytest.raises(ConfigError, match="no browser sends") as mistake:
        parse({"origins": ["*", origin]})
    assert mistake.value.path == "origins[1]"


@pytest.mark.parametrize(
    "origin", ["*", "https://a.example/", "HTTP://[::1]:8000", "https://*.a.example:1", "tauri://localhost"]
)
def test_an_origin_that_a_browser_sends_is_accepted(origin: str) -> None:
    assert parse({"origins": [origin]}).origins == [origin]


@pytest.mark.parametrize("environment", [{"FRESHET_SECRET": "x"}, {"FRESHET_TOKENS__SECRET": "x"}])
def test_a_file_whose_table_is_none_is_named_whatever_the_environment(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    file = tmp_path / "freshet.toml"
    file.write_text("tokens = 5\n")
    with pytest.raises(ConfigError) as mistake:
        load(file, environment)
    assert mistake.value.path == "tokens"


@given(
    st.permutations(
        [
            ("FRESHET_KEY", "x"),
            ("FRESHET_TOKENS", '{"leeway": 5, "issuer": "whole"}'),
            ("FRESHET_TOKENS__ISSUER", "part"),
            ("FRESHET_TOKENS__SECRET_ENV", "FRESHET_KEY"),
        ]
    )
)
def test_the_order_of_the_environment_does_not_matter_and_a_part_comes_before_its_whole(
    pairs: list[tuple[str, str]],
) -> None:
    tokens = load(None, dict(pairs)).tokens
    assert (tokens.leeway, tokens.issuer, tokens.secret_env) == (5, "part", "FRESHET_KEY")


def test_a_part_of_a_table_that_is_none_is_named() -> None:
    with pytest.raises(ConfigError) as mistake:
        load(None, {"FRESHET_LIMITS": "5", "FRESHET_LIMITS__OUTBOX": "2048"})
    assert mistake.value.path == "limits"


@pytest.mark.parametrize(
    "environment",
    [
        {"FRESHET_TOKENS": '{"secret": "hunter2"'},
        {"FRESHET_TOKENS": '{"secret": ["hunter2"]}'},
        {"FRESHET_TOKENS": '{"secert": "hunter2"}'},
        {"FRESHET_TOKENS": "hunter2"},
        {"FRESHET_TOKENS__SECERT": "hunter2"},
        {"FRESHET_CHANNELS": "hunter2"},
    ],
)
def test_a_mistake_shows_no_secret(environment: dict[str, str]) -> None:
    with pytest.raises(ConfigError) as mistake:
        load(None, environment)
    assert "hunter2" not in str(mistake.value)


def test_a_console_shows_no_secret() -> None:
    assert "hunter2" not in pretty_repr(parse({"tokens": {"secret": "hunter2"}}))


@pytest.mark.parametrize("channels", [1, 128, 5000])
@pytest.mark.parametrize("token", [400, 16 * KIB])
@pytest.mark.parametrize("name", ["n", "\u00e9"])
def test_a_client_may_come_back_to_all_its_channels_with_its_largest_tokens_in_one_frame(
    channels: int, token: int, name: str
) -> None:
    limits = Limits(channels_per_client=channels)
    place = {"recover": True, "epoch": "x" * 16, "offset": 2**63}
    longest = name * (limits.channel_length // len(name.encode()))
    subscribe = {"id": 2**32 - 1, "subscribe": {"channel": longest, "token": "t" * token, **place}}
    connect = {"id": 1, "connect": {"token": "t" * token}}
    assert len(json.dumps(connect)) + channels * (len(json.dumps(subscribe)) + 1) <= limits.frame.size


def test_a_frame_may_be_given_a_limit_of_its_own() -> None:
    limits = Limits(frame_size=100_000)
    assert limits.frame == (100_000, "limits.frame_size")


def test_an_option_says_its_unit() -> None:
    units = {option.path: option.unit for option in reference()}
    assert units["limits.outbox"] == "bytes"
    assert units["timing.ping_interval"] == "seconds"
    assert units["limits.backlog"] == "count"
    assert units["engine"] == ""
    assert all(option.unit for option in reference() if option.type in ("int", "float"))
