"""Whether Cv, U, S and F of crystals belong together, an `evaluate` module."""

from typing import Any

import datasets
import evaluate

from cloud_hf.metrics import thermodynamic_consistency

_DESCRIPTION = "Largest relative violation of dU/dT = Cv, dF/dT = -S and F = U - TS, and of the bounds of a solid."
_INPUTS = """
Args:
    temperature: One increasing grid per crystal, K.
    heat_capacity: Cv on the grid, J/(mol K).
    internal_energy: U on the grid, J/mol.
    entropy: S on the grid, J/(mol K).
    helmholtz_energy: F on the grid, J/mol.
    n_atoms: Atoms that the values stand for, a number for all crystals or one for each; without it Cv <= 3NR is not
        checked.

Returns:
    `heat_capacity_error`, `entropy_error`, `helmholtz_energy_error`: the largest over the crystals;
    `bounds_violations`: their sum; `n`: number of crystals.
"""
_CITATION = ""
_COLUMNS = ("temperature", "heat_capacity", "internal_energy", "entropy", "helmholtz_energy")


class ThermodynamicConsistency(evaluate.Metric):
    """The worst crystal of each check."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features({name: datasets.List(datasets.Value("float64")) for name in _COLUMNS}),
        )

    def _compute(self, n_atoms: Any = None, **columns: Any) -> dict[str, float | int]:
        crystals = list(zip(*(columns[name] for name in _COLUMNS), strict=True))
        atoms = list(n_atoms) if hasattr(n_atoms, "__len__") else [n_atoms] * len(crystals)
        rows = [
            thermodynamic_consistency(*crystal, n_atoms=n)  # type: ignore[misc]
            for crystal, n in zip(crystals, atoms, strict=True)
        ]
        worst = {name: max(row[name] for row in rows) for name in rows[0] if name.endswith("_error")}
        return {**worst, "bounds_violations": sum(row["bounds_violations"] for row in rows), "n": len(rows)}
