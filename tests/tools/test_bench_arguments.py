"""The arguments of the benchmarks: each that several take is declared once, and every benchmark has --write."""

import importlib
import re
import sys
from pathlib import Path

import pytest

from bench.arguments import SHARED, benchmark_parser
from tests.tools.need import ROOT

BENCHES = [
    "clients",
    "crowd",
    "engines",
    "fanout",
    "gateway",
    "jitter",
    "loads",
    "memory",
    "rooms",
    "runs",
    "storm",
    "versus",
]
PROGRAMS = [*(ROOT / "bench" / f"{name}.py" for name in BENCHES), ROOT / "tests" / "chaos" / "__main__.py"]


def test_a_benchmark_has_the_shared_arguments_that_it_names_with_its_own_defaults() -> None:
    options = benchmark_parser("What for.", subscribers=300, windows=[1, 8]).parse_args([])
    assert vars(options) == {"subscribers": 300, "windows": [1, 8], "write": False}


def test_arguments_are_read_from_the_command_line() -> None:
    parser = benchmark_parser("What for.", rounds=5, windows=[1], seconds=1.0, rate=100)
    options = parser.parse_args(["--rounds", "2", "--windows", "1,8,64", "--seconds", "0.5", "--rate", "50", "--write"])
    assert vars(options) == {"rounds": 2, "windows": [1, 8, 64], "seconds": 0.5, "rate": 50.0, "write": True}


def test_an_argument_that_is_wrong_ends_with_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    parser = benchmark_parser("What for.", windows=[1])
    with pytest.raises(SystemExit, match="2"):
        parser.parse_args(["--windows", "1,many"])
    assert "argument --windows: invalid numbers value: '1,many'" in capsys.readouterr().err


def test_an_argument_that_is_not_shared_is_refused_with_those_that_are() -> None:
    with pytest.raises(ValueError, match=r"'listeners' is no shared argument: .*rounds.*subscribers"):
        benchmark_parser("What for.", listeners=300)


@pytest.mark.parametrize("name", BENCHES)
def test_each_benchmark_says_what_it_takes(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    benchmark = importlib.import_module(f"bench.{name}")
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit, match="0"):
        benchmark.main()
    text = capsys.readouterr().out
    assert text.startswith("usage:")
    assert "--write" in text
    assert str(benchmark.__doc__).splitlines()[0] in text


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)
def test_nobody_declares_a_shared_argument_again(program: Path) -> None:
    declared = set(re.findall(r'add_argument\(\s*"--(\w+)"', program.read_text()))
    assert not declared & {*SHARED, "write"}
