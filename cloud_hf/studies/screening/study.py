"""The study `screening`: hide families of crystals, enumerate them, and see where the known ones rank."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from cloud_hf.baselines import TreeBaseline, tree_features
from cloud_hf.data.assignment import composition_name
from cloud_hf.errors import StudyError
from cloud_hf.metrics import regression_metrics
from cloud_hf.screening.evaluation import LARGEST_DROP
from cloud_hf.screening.hull import KnownPhases
from cloud_hf.studies.common.arguments import TrainingStudyArguments
from cloud_hf.studies.common.crystals import Crystals
from cloud_hf.studies.common.fitting import training_settings
from cloud_hf.studies.common.folder import StudyFolder, digest_of
from cloud_hf.studies.common.report import finish
from cloud_hf.studies.screening.candidates import STABLE, STATUSES, Background, family_candidates
from cloud_hf.studies.screening.figures import found_figure, properties_figure
from cloud_hf.studies.screening.fitting import fitted_predictions
from cloud_hf.studies.screening.neighbours import NEIGHBOURS, composition_vectors, neighbour_predictions
from cloud_hf.studies.screening.ranking import (
    SHARES,
    found_curve,
    random_enrichment,
    ranked,
    stiffest_found,
    window_found,
)
from cloud_hf.studies.screening.rows import BULK, ENERGY, GAP, families_of, family_prototypes, read_labelled
from cloud_hf.training.arguments import in_range

__all__ = ["FAMILIES", "LABEL_COLUMNS", "REPORT_VALUES", "Arguments", "run"]

FAMILIES = ("half-heusler", "spinel", "perovskite", "chalcopyrite", "rock-salt")
"""Hidden by default."""

LABEL_COLUMNS = {
    ENERGY: ["materials_project:megnet2018_e_form", "matbench_labels:formation_energy_per_atom"],
    GAP: ["materials_project:megnet2018_gap_pbe", "matbench_labels:band_gap"],
    BULK: ["matbench_labels:bulk_modulus_vrh"],
}
"""Where the labels are by default: tables of the Materials Project, and MatBench's labels by id."""

WINDOW = (1.0, 2.0)
"""eV: gaps of the semiconductors that are to be found."""

STIFF = 150.0
"""GPa: bulk modulus of the stiff crystals that are to be found."""

LISTED = 5
"""Unknown candidates of each family that the report names."""

CURVE = np.geomspace(0.001, 1, 61)

ARMS = {"model": "model", "trees": "trees", "neighbours": "neighbours by composition"}

CAPPED = {"model_capped": "model, capped", "trees_capped": "trees, capped"}
"""The same energies in the order of `cloud-hf screen`, which credits none with more than `LARGEST_DROP` below."""

REPORT_VALUES = {
    "ARMS_HERE": ARMS | CAPPED, "LARGEST_DROP": LARGEST_DROP, "STATUSES": STATUSES, "STABLE": STABLE,
    "WINDOW": WINDOW, "STIFF": STIFF, "NEIGHBOURS": NEIGHBOURS,
}  # fmt: skip


@dataclass
class Arguments(TrainingStudyArguments):
    """Hide whole families of crystals, enumerate them as `cloud-hf screen` does, and see where the known ones rank.

    One model and trees learn from all crystals of other families; the candidates of each family are ranked by their
    predicted energy above the hull of the phases without the hidden ones. --data names the table of crystals, and
    tables whose labels belong to it by their column `id`.
    """

    families: list[str] = field(
        default_factory=lambda: [*FAMILIES],
        metadata={"help": "Prototypes of `cloud-hf screen --list` whose crystals are hidden, all at once."},
    )
    energy: list[str] = field(
        default_factory=lambda: [*LABEL_COLUMNS[ENERGY]],
        metadata={"help": "Columns of formation energies, eV/atom, of the vintage of the known phases, TABLE:COLUMN; "
                  "the first that has a number counts."},
    )  # fmt: skip
    gap: list[str] = field(
        default_factory=lambda: [*LABEL_COLUMNS[GAP]],
        metadata={"help": "Columns of band gaps, eV."},
    )
    bulk: list[str] = field(
        default_factory=lambda: [*LABEL_COLUMNS[BULK]],
        metadata={"help": "Columns of bulk moduli, GPa."},
    )
    candidates: int = field(default=3000, metadata={"help": "Unknown candidates of each family, drawn at random."})
    rows: int = field(default=0, metadata={"help": "Only the first labelled rows; 0: all."})
    light_trees: bool = field(
        default=False, metadata={"help": "Fewer and coarser trees: a sixth of the time, a few percent more error."}
    )

    def __post_init__(self) -> None:
        """Refuse values that cannot work."""
        super().__post_init__()
        in_range("candidates", self.candidates, 10, 1e6)
        in_range("rows", self.rows, 0, 1e9)
        family_prototypes(self.families)
        if not self.energy:
            raise StudyError("--energy names no column; candidates are ranked by their energies.")


def run(arguments: Arguments) -> Path:
    """Run the study and return the path of its report.

    Raises:
        CloudError: Data, families or folder that cannot be used; the message says why.
    """
    prototypes = family_prototypes(arguments.families)
    columns = {ENERGY: arguments.energy, GAP: arguments.gap, BULK: arguments.bulk}
    settings = training_settings(arguments) | {
        "data": [f"{Path(path).name} {digest_of(path)}" for path in arguments.data], "columns": columns,
        "families": arguments.families, "candidates": arguments.candidates, "rows": arguments.rows,
        "light_trees": arguments.light_trees,
    }  # fmt: skip
    folder = StudyFolder(arguments.out, "screening", settings)
    crystals = read_labelled(
        arguments.data, columns, folder.path / "cells" / "strings", arguments.workers, arguments.rows or None
    )
    family = families_of(crystals.scopes, prototypes)
    hidden = np.array([name is not None for name in family])
    background = Background.of(crystals, hidden, KnownPhases.bundled())
    listed = {
        name: folder.cell(
            f"candidates/{name}",
            lambda name=name: family_candidates(  # type: ignore[misc]
                prototypes[name], background, arguments.candidates, arguments.seed,
                [crystals.scopes[row] for row in np.flatnonzero(family == name)],
            ),
        )
        for name in tqdm(prototypes, desc="candidates", unit="family", disable=None)
    }  # fmt: skip
    train = crystals.take(np.flatnonzero(~hidden))
    if not len(train):
        raise StudyError("every crystal belongs to a family; none is left to train on.")
    asked = list(dict.fromkeys([scope for cell in listed.values() for scope in cell["scope"]]))
    asked = list(dict.fromkeys([*asked, *(crystals.scopes[row] for row in np.flatnonzero(hidden))]))
    arms = _predictions(arguments, folder, train, asked)
    properties = _properties(_labels(crystals, hidden), arms, arguments.seed)
    scored = {
        name: _family(listed[name], arms, arguments.seed) | {"hidden": int((family == name).sum())}
        for name in prototypes
    }
    results = {
        "table": {
            "rows": len(crystals), "hidden": int(hidden.sum()), "train": len(train),
            "labels": {name: int((~np.isnan(values)).sum()) for name, values in train.labels.items()},
            "failed": len(crystals.failures), "failures": crystals.failed_by_reason,
        },
        "phases": {"all": len(background.phases), "removed": background.removed},
        "families": scored,
        "means": _means([family["among_unknown"]["arms"] for family in scored.values()], ARMS | CAPPED),
        "means_near": _means(
            [
                {arm: entry["arms"][arm] for arm, entry in family["near"].items() if entry["arms"]}
                for family in scored.values()
            ],
            ARMS,
        ),
        "properties": properties,
        "seconds": {name: folder.cell(name, _done)["seconds"] for name in arms},
    }  # fmt: skip
    figures = {
        "found.png": found_figure(scored, CURVE.tolist()),
        "properties.png": properties_figure(properties),
    }
    for entry in properties.values():
        del entry["points"]
    return finish(folder, results, figures)


def _done() -> dict[str, Any]:
    raise AssertionError("every arm was predicted before")


def _predictions(
    arguments: Arguments, folder: StudyFolder, train: Crystals, asked: list[str]
) -> dict[str, dict[str, dict[str, float]]]:
    """Predictions of each arm: quantity, then string, to number."""

    def cell(name: str, compute: Any) -> dict[str, dict[str, float]]:
        stored = folder.cell(name, lambda: {"scopes": asked, **compute()})
        if stored["scopes"] != asked:
            raise StudyError(f"{folder.path}/cells/{name}.json: holds other crystals; remove it to go on.")
        return {quantity: dict(zip(asked, stored[quantity], strict=True)) for quantity in train.labels}

    def model() -> dict[str, Any]:
        others = Crystals.of_scopes(asked, asked)
        predicted = fitted_predictions(arguments, train, others, folder.path / "model")
        return {name: predicted[:, place].tolist() for place, name in enumerate(train.labels)}

    def trees() -> dict[str, Any]:
        features, _ = tree_features([*train.scopes, *asked], "letters")
        names = np.array([composition_name(scope) for scope in train.scopes])
        predicted = {}
        for quantity, values in train.labels.items():
            rows = np.flatnonzero(~np.isnan(values))
            kind = "log" if quantity == BULK else "value"
            baseline = TreeBaseline(kind, seed=arguments.seed, light=arguments.light_trees)
            baseline.fit(features[rows], values[rows], groups=names[rows].tolist())
            predicted[quantity] = baseline.predict(features[len(train) :]).tolist()
        return predicted

    def neighbours() -> dict[str, Any]:
        vectors, others = composition_vectors(train.scopes), composition_vectors(asked)
        return {name: neighbour_predictions(vectors, values, others).tolist() for name, values in train.labels.items()}

    baselines = {"neighbours": neighbours, "trees": trees} if arguments.baselines else {}
    predicted = {name: cell(name, compute) for name, compute in baselines.items()}  # before the long training
    return {
        name: predicted[name] if name in predicted else cell(name, model)
        for name in ARMS
        if name in {"model", *predicted}
    }


def _family(cell: dict[str, Any], arms: dict[str, dict[str, dict[str, float]]], seed: int) -> dict[str, Any]:
    """Scores of a family, and the best unknown candidates."""
    status = np.array(cell["status"])
    hull = np.array(cell["hull"])
    above = {
        arm: np.array([predictions[ENERGY][scope] for scope in cell["scope"]]) - hull
        for arm, predictions in arms.items()
    }
    parts = {
        name: {arm: values[status == name] for arm, values in above.items()}
        for name in ("stable", "unstable", "unknown")
    }
    capped = {
        name: {
            f"{arm}_capped": np.maximum(values, -LARGEST_DROP)
            for arm, values in part.items()
            if f"{arm}_capped" in CAPPED
        }
        for name, part in parts.items()
    }

    def scores(others: str) -> dict[str, Any]:
        scored = ranked(parts["stable"], parts[others], seed=seed)
        scored["arms"] |= ranked(capped["stable"], capped[others], "trees_capped", seed)["arms"]
        return scored

    n = int((status == "stable").sum())
    curves = {}
    if n and len(parts["unknown"]["model"]):
        curves = {arm: found_curve(parts["stable"][arm], parts["unknown"][arm], CURVE) for arm in above}
    best = np.flatnonzero(status == "unknown")
    best = best[np.argsort(above["model"][best], kind="stable")][:LISTED]
    return {
        "counts": cell["counts"], "statuses": cell["statuses"], "against_rules": cell["against_rules"],
        "seconds": cell["seconds"],
        "among_unknown": scores("unknown"), "among_known": scores("unstable"),
        "far_below": {name: int((part["model"] < -LARGEST_DROP).sum()) for name, part in parts.items()},
        "near": {arm: _near(parts["stable"][arm], parts["unknown"][arm], arm, seed) for arm in above},
        "random": {f"enrichment_{share:.0%}".rstrip("%"): random_enrichment(n, share) for share in SHARES if n},
        "curves": curves,
        "best": [
            {"formula": cell["formula"][place], "above": float(above["model"][place]),
             "trees": float(above["trees"][place]) if "trees" in above else None, "competing": cell["competing"][place]}
            for place in best
        ],
    }  # fmt: skip


def _near(known: NDArray[np.float64], unknown: NDArray[np.float64], arm: str, seed: int) -> dict[str, Any]:
    """Scores of an arm without the candidates that lie so far below the hull that phases must be missing there."""
    known, unknown = (values[values >= -LARGEST_DROP] for values in (known, unknown))
    return ranked({arm: known}, {arm: unknown}, seed=seed)


def _means(families: list[dict[str, Any]], names: dict[str, str]) -> dict[str, dict[str, float]]:
    """Mean of each score over the families that have any, for each arm that all of these have."""
    scored = [arms for arms in families if arms]
    arms = [arm for arm in names if scored and all(arm in scores_of_run for scores_of_run in scored)]
    scores = ("enrichment_1", "enrichment_5", "auroc")
    return {
        arm: {name: float(np.mean([scores_of_run[arm][name]["value"] for scores_of_run in scored])) for name in scores}
        for arm in arms
    }


def _labels(crystals: Crystals, hidden: NDArray[np.bool_]) -> dict[str, dict[str, float]]:
    """Labels of the hidden crystals: quantity, then string, to the mean over its rows."""
    rows = np.flatnonzero(hidden)
    means: dict[str, dict[str, float]] = {}
    for name, values in crystals.labels.items():
        by_string: dict[str, list[float]] = {}
        for row in rows[~np.isnan(values[rows])]:
            by_string.setdefault(crystals.scopes[row], []).append(float(values[row]))
        means[name] = {scope: float(np.mean(numbers)) for scope, numbers in by_string.items()}
    return means


def _properties(
    labels: dict[str, dict[str, float]], arms: dict[str, dict[str, dict[str, float]]], seed: int
) -> dict[str, Any]:
    """Errors on the hidden crystals, semiconductors and stiff crystals found, and the points of the picture."""
    scored: dict[str, Any] = {}
    for name, known in labels.items():
        if not known:
            continue
        truth = np.array([*known.values()])
        predicted = {arm: np.array([values[name][scope] for scope in known]) for arm, values in arms.items()}
        entry: dict[str, Any] = {
            "arms": {arm: dict(regression_metrics(truth, values)) for arm, values in predicted.items()},
            "n": len(truth), "points": {"truth": truth.tolist(), "model": predicted["model"].tolist()},
        }  # fmt: skip
        if name == GAP:
            entry["window"] = {arm: window_found(truth, values, *WINDOW) for arm, values in predicted.items()}
        if name == BULK:
            entry["stiff"] = {arm: stiffest_found(truth, values, STIFF, seed) for arm, values in predicted.items()}
        scored[name] = entry
    return scored
