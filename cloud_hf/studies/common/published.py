"""Published results that a study's numbers stand beside.

Sources: the CLOUD paper (arXiv 2506.17345, Nat. Commun. 17, 4074, 2026) for its own numbers and those that it compares
with; the MatBench leaderboard for the others. Mean absolute errors in the unit of each task.
"""

__all__ = ["CLOUD_DEBYE", "DIELECTRIC_FOLD_0", "MATBENCH", "MATBENCH_UNITS", "SCALING_EXPONENTS", "UNCONVBENCH", "WBM"]

MATBENCH_UNITS = {
    "matbench_jdft2d": "meV/atom",
    "matbench_phonons": "cm^-1",
    "matbench_dielectric": "1",
    "matbench_log_gvrh": "log10(GPa)",
    "matbench_log_kvrh": "log10(GPa)",
    "matbench_perovskites": "eV/unit cell",
    "matbench_mp_gap": "eV",
    "matbench_mp_e_form": "eV/atom",
}
"""The eight structure tasks and the units of their targets."""

_MATBENCH_ROWS: dict[str, tuple[float | str, ...]] = {
    "CLOUD": (35.0, 41, 0.304, 0.0877, 0.0683, 0.096, 0.2105, 0.054),
    "CLOUD without pre-training": (44.6, 88.8, 0.391, 0.1176, 0.0922, 0.098, 0.281, 0.063),
    "CrabNet (composition)": (45.6, 55.1, 0.323, 0.101, 0.076, 0.407, 0.266, 0.086),
    "ALIGNN (coordinates)": (43.4, 29.5, 0.345, 0.0715, 0.0568, 0.0288, 0.186, 0.0215),
    "best on the board": (33.2, 28.8, 0.271, 0.0670, 0.0491, 0.0269, 0.156, 0.0170),
}

MATBENCH: dict[str, dict[str, float]] = {
    task: {name: float(values[column]) for name, values in _MATBENCH_ROWS.items()}
    for column, task in enumerate(MATBENCH_UNITS)
}
"""Task to model to MAE, mean over the five folds. Wrenformer, also coordinate-free, is published as ranges: jdft2d
38-40, phonons 67-93, dielectric 0.36, log G 0.105, log K 0.082, perovskites 0.34-0.42, gap 0.30, E_form 0.07."""

DIELECTRIC_FOLD_0 = {"ALIGNN": 0.197, "coNGN": 0.199, "Finder": 0.202, "CrabNet": 0.215, "RF": 0.304, "dummy": 0.703}
"""MAE of the refractive index on fold 0 alone, which is easier than the others."""

CLOUD_DEBYE = {"CLOUD-DEBYE": 0.057, "CLOUD without the Debye head": 0.16, "CGCNN": 0.76}
"""MAE:MAD of heat capacity at 300 K on the paper's test rows."""

UNCONVBENCH = {
    "exfoliation": "0.48", "2d_e_tot": "0.02-0.03", "2d_gap": "0.155", "qmof": "0.475", "supercon": "0.767",
    "defected": "0.45",
}  # fmt: skip
"""MAE:MAD of CLOUD."""

WBM = {
    "Wrenformer": {"F1": 0.479, "MAE": 0.105, "DAF": 2.13, "ROC-AUC": 0.78},
    "CLOUD": {"ROC-AUC": 0.81},
    "ALIGNN": {"ROC-AUC": 0.83},
}
"""MatBench Discovery without relaxation; MAE in eV/atom."""

SCALING_EXPONENTS = {"parameters": 0.45, "data": 0.55}
"""Exponents of the paper's power law, about."""
