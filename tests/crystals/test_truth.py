"""Every textbook crystal in every dialect: the one string, or an error where the dialect leaves something open."""

from __future__ import annotations

from functools import cache

import pytest

from cloud_hf import ScopeEncoder, errors
from cloud_hf.crystals.readers import read_text
from crystals import dialects

CRYSTALS = {crystal.name: crystal for crystal in dialects.crystals()}
ENCODER = ScopeEncoder()


@cache
def truth(name: str) -> str:
    """The string of the whole cell, made without reading any file."""
    return ENCODER.encode(dialects.expanded(CRYSTALS[name]))


def test_the_table_is_large_enough() -> None:
    assert len(CRYSTALS) >= 20
    assert len(dialects.MUST) + len(dialects.MAY) >= 15
    assert len({truth(name) for name in CRYSTALS}) == len(CRYSTALS), "crystals that share a string tell less"


@pytest.mark.parametrize("dialect", dialects.MUST)
def test_what_is_said_fully_is_read(dialect: str) -> None:
    wrong, written = {}, 0
    for name, crystal in CRYSTALS.items():
        text = dialects.MUST[dialect](crystal)
        if text is None:
            continue
        written += 1
        try:
            found = ENCODER.encode(read_text(text, name))
        except errors.CrystalError as error:
            found = str(error)
        if found != truth(name):
            wrong[name] = found
    assert written
    assert not wrong


@pytest.mark.parametrize("dialect", dialects.MAY)
def test_what_is_left_open_never_becomes_another_crystal(dialect: str) -> None:
    wrong = {}
    for name, crystal in CRYSTALS.items():
        text = dialects.MAY[dialect](crystal)
        if text is None:
            continue
        try:
            found = ENCODER.encode(read_text(text, name))
        except errors.CrystalError:
            continue
        if found != truth(name):
            wrong[name] = found
    assert not wrong
