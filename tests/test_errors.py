"""Errors carry data: what, of which input, and the way out; the text is made at the end."""

from __future__ import annotations

import pickle

import pytest

from cloud_hf import errors
from cloud_hf.errors import CloudError, CrystalReadError, EncodingTimeoutError, about, summary
from cloud_hf.models.debye import DebyeInputError


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


def test_every_kind_has_a_meaning_and_a_way_out() -> None:
    kinds = [name for name in errors.__all__ if isinstance(getattr(errors, name), type)]
    lines = summary(dict.fromkeys(kinds, 2) | {"CrystalReadError": 5, "OfALaterVersionError": 1})
    assert lines[0].startswith("5 CrystalReadError: ")
    assert lines[-1].startswith("1 OfALaterVersionError: ")
    assert len(lines) == len(kinds) + 1
    assert all("; " in line for line in lines)
    assert summary({}) == []


def test_the_debye_model_refuses_with_an_error_of_this_package() -> None:
    assert issubclass(DebyeInputError, CloudError)
