"""Errors carry data: what, of which input, and the way out; the text is made at the end."""

from __future__ import annotations

import ast
import pickle
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_hf import errors
from cloud_hf.errors import (
    CloudError,
    CrystalReadError,
    EncodingTimeoutError,
    about,
    argument_spelling,
    first_line,
    one_line,
    summary,
    unforeseen,
)
from cloud_hf.models.debye import DebyeInputError

SOURCES = Path(errors.__file__).parent
FOR_COMMANDS = ("cli", "studies", "training")  # arguments of studies and trainings are flags
FILES = [path for path in sorted(SOURCES.rglob("*.py")) if path.relative_to(SOURCES).parts[0] not in FOR_COMMANDS]


@pytest.mark.parametrize("error", [
    CrystalReadError("is empty."), CrystalReadError("is empty.", source="a.cif"),
    EncodingTimeoutError("is empty.", source="a.cif", flag="timeout"),
])  # fmt: skip
def test_an_error_names_its_input_once(error: CloudError) -> None:
    assert str(about(error, "a.cif")) == "a.cif: is empty."
    assert (error.source, error.reason) == ("a.cif", "is empty.")


def test_an_error_of_something_inside_keeps_its_name() -> None:
    error = about(CrystalReadError("is empty.", source="structure Na1 Cl1"), "t.csv:3")
    assert str(error) == "t.csv:3: structure Na1 Cl1: is empty."
    assert error.source == "t.csv:3"


def test_errors_travel_with_their_data() -> None:
    error = pickle.loads(pickle.dumps(about(EncodingTimeoutError("slow", row=3, flag="timeout"), "t.csv")))
    assert (error.reason, error.source, error.row, error.flag) == ("slow", "t.csv", 3, "timeout")


def test_the_reader_of_a_message_decides_how_its_argument_is_spelled() -> None:
    error = about(CrystalReadError("a `name`; give `sites=True` or `sites`.", flag="sites"), "`sites`.cif")
    said = "`sites`.cif: a `name`; give `sites=True` or `sites`."
    assert str(error) == said
    before = argument_spelling.set({"sites": "--sites", "name": "--name"}.get)
    try:
        assert str(error) == "`sites`.cif: a `name`; give --sites or --sites."
        assert str(CrystalReadError("give `sites`.")) == "give `sites`."
        assert str(CrystalReadError("give `other`.", flag="other")) == "give `other`."
    finally:
        argument_spelling.reset(before)
    assert str(error) == said


@given(text=st.text(st.sampled_from("ab \n\t\r\x0b\u2028"), max_size=40), most=st.none() | st.integers(1, 50))
def test_what_another_library_says_fits_on_one_line(text: str, most: int | None) -> None:
    error = RuntimeError(text)
    for line in (one_line(error, most), first_line(error), unforeseen(error).reason):
        assert line.splitlines() == [line]
    said = one_line(error, most)
    assert said == (" ".join(text.split())[:most] if text.split() else "RuntimeError")
    assert first_line(error) in (*(line.strip() for line in text.splitlines()), "RuntimeError")


def strings_of(node: ast.AST) -> Iterator[str]:
    """Literals below a node, an f-string as one text, without docstrings."""
    for below in ast.iter_child_nodes(node):
        if isinstance(below, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in below.values)
        elif isinstance(below, ast.Constant) and isinstance(below.value, str):
            yield below.value
        elif not (isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)):
            yield from strings_of(below)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCES)))
def test_messages_name_arguments_as_python_spells_them(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    texts = [re.sub("`cloud-hf [^`]*`", "", text) for function in functions for text in strings_of(function)]
    assert not [text for text in texts if re.search(r"(^|[^\w-])--[a-z]", text)]
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        named = [entry.value for entry in call.keywords if entry.arg == "flag"]
        if call.args and named and isinstance(named[0], ast.Constant) and not isinstance(call.args[0], ast.Name):
            assert any(re.search(f"`{named[0].value}(=True)?`", text) for text in strings_of(call)), ast.unparse(call)


def test_every_kind_has_a_meaning_and_a_way_out() -> None:
    kinds = [name for name in errors.__all__ if isinstance(getattr(errors, name), type)]
    lines = summary(dict.fromkeys(kinds, 2) | {"CrystalReadError": 5, "OfALaterVersionError": 1})
    assert lines[0].startswith("5 CrystalReadError: ")
    assert lines[-1].startswith("1 OfALaterVersionError: ")
    assert len(lines) == len(kinds) + 1
    assert all("; " in line for line in lines)
    assert summary({}) == []
    assert not [line for line in lines if "--" in line]


def test_the_debye_model_refuses_with_an_error_of_this_package() -> None:
    assert issubclass(DebyeInputError, CloudError)
