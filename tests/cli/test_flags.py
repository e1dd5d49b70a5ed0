"""Flags have one spelling: an unknown one ends a command with status 2 and names what it may have meant."""

from __future__ import annotations

import argparse
import re
from typing import Any

import pytest

from cloud_hf.cli.flags import unknown_flag
from cloud_hf.cli.main import COMMANDS, build_parser, main

PARSED = [command for command in COMMANDS if command not in ("pretrain", "finetune", "joint", "study")]


def parsers(parser: Any) -> list[Any]:
    """A parser and those of its commands."""
    below = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return [parser, *(found for action in below for one in action.choices.values() for found in parsers(one))]


@pytest.mark.parametrize("command", PARSED)
def test_every_flag_has_hyphens_and_is_known_to_its_parser(command: str) -> None:
    for parser in parsers(build_parser(command)):
        flags = {flag for action in parser._actions for flag in action.option_strings}
        assert flags == parser.flags
        assert not [flag for flag in flags if "_" in flag]
        assert not parser.allow_abbrev


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["predict", "x.cif", "--n_atoms", "4"], "unknown flag --n_atoms; did you mean --n-atoms?"),
        (["predict", "x.cif", "--batch_size=4"], "unknown flag --batch_size; did you mean --batch-size?"),
        (["predict", "x.cif", "--temp", "4"], "unknown flag --temp"),
        (["evaluate", "--lable", "y"], "unknown flag --lable; did you mean --label?"),
        (["corpus", "build", "x", "--max_atoms", "4"], "unknown flag --max_atoms; did you mean --max-atoms?"),
        (["encode", "x.cif", "--zzzz"], "unknown flag --zzzz."),
    ],
)
def test_an_unknown_flag(argv: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(argv)
    assert stop.value.code == 2
    assert said in capsys.readouterr().err


def test_words_that_are_no_flags() -> None:
    assert unknown_flag(["a", "-1", "-", "--n=--x", "--", "--later"], {"--n"}) is None
    assert re.match("unknown flag --m; did", unknown_flag(["--m"], {"--n", "--max"}) or "")


@pytest.mark.parametrize(
    ("name", "reason"), [("low_data", "it is called 'low-data'"), ("lowdata", "there are: .*low-data")]
)
def test_a_study_by_a_name_that_it_has_not(name: str, reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study", name, "--help"]) == 2
    assert re.search(f"no study '{name}'; {reason}", capsys.readouterr().err)
