"""A short share of the fuzz run: a fixed number of inputs of every kind, and that the run itself works."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from pymatgen.core import Structure

sys.path.insert(0, str(Path(__file__).parent))

import fuzz_encoder
import fuzz_inputs

Outcome = tuple[int, Any, list[Any]]


@pytest.fixture(scope="module", params=[400, pytest.param(20_000, marks=pytest.mark.slow)])
def outcome(request: pytest.FixtureRequest) -> Outcome:
    """Number of inputs, counts and findings; `make fuzz` takes 100,000. An input has ten minutes on a busy machine."""
    return request.param, *fuzz_encoder.run(request.param, seed=1, limit=600.0)


def test_no_input_crashes_hangs_or_escapes(outcome: Outcome) -> None:
    findings = [
        f"python tests/fuzz/fuzz_encoder.py --seed 1 --only {index}  # {verdict.kind}: {verdict.what}"
        for index, verdict in outcome[2]
    ]
    assert not findings, "\n".join(findings)


def test_every_input_is_counted(outcome: Outcome) -> None:
    inputs, counts, _ = outcome
    assert fuzz_encoder.summary(counts).startswith(f"{inputs} inputs: ")
    for kind in set(fuzz_inputs.KINDS):
        share = fuzz_inputs.KINDS.count(kind) / len(fuzz_inputs.KINDS)
        assert sum(counts[f"{kind} {what}"] for what in ("encoded", "refused", "finding")) == share * inputs


@pytest.mark.parametrize("kind", sorted(set(fuzz_inputs.KINDS)))
def test_every_kind_reaches_both_ends(outcome: Outcome, kind: str) -> None:
    """Inputs that are all refused, or all fine, would test little."""
    inputs, counts, _ = outcome
    least = -(-inputs // 2_000)
    if kind == "truth":  # a crystal of a writer is never refused
        assert counts["truth refused"] == 0
    else:
        assert counts[f"{kind} refused"] >= least
    assert counts[f"{kind} encoded"] >= least


def test_an_input_is_made_again_from_its_number() -> None:
    for index in range(40):
        first, second = (fuzz_inputs.make(5, index) for _ in range(2))
        assert repr(first) == repr(second)
        assert first[0] == fuzz_inputs.kind_of(index)


class Faulty:
    """An encoder with a bug that only structures meet."""

    grammar = "composition"

    def describe(self, crystal: Any) -> Any:
        if isinstance(crystal, Structure):
            raise KeyError("a bug")
        return fuzz_encoder.ScopeEncoder(grammar="composition", canonical=False).describe(crystal)


def test_a_bug_is_found_and_saved(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(fuzz_encoder, "encoders", lambda: [Faulty()])
    counts, findings = fuzz_encoder.run(20, seed=2)
    structures = [index for index in range(20) if fuzz_inputs.kind_of(index) in {"structure", "perturbed"}]
    assert [index for index, _ in findings] == structures
    assert counts["finding"] == len(structures)
    assert all("KeyError" in verdict.what for _, verdict in findings)
    fuzz_encoder.save(findings, 2, tmp_path)
    for index in structures:
        assert f"--seed 2 --only {index}" in (tmp_path / f"{index}.txt").read_text()
        assert (tmp_path / f"{index}.pickle").exists()


def test_time_ends_a_run() -> None:
    assert list(fuzz_encoder.indices(10, seconds=0.0)) == []
    assert list(fuzz_encoder.indices(10, None)) == list(range(10))
