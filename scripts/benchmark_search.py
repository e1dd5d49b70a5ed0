"""Measure what `cloud-hf search` finds: neighbours as predictors, and an approximate index beside exact search.

    python scripts/benchmark_search.py --data materials_project.parquet matbench_labels.parquet

neighbours  The label of a crystal as the mean label of its nearest neighbours in other folds: by the cosine of vectors,
            as the search finds them, and by composition alone. The vectors are of the masked language model inside the
            package, which has seen strings and no label, so that no label can come back through them.
learned     The same for crystals of families that were hidden from a model which has learned labels of all others: the
            checkpoint of `cloud-hf study screening`, given with --model.
index       Recall of an approximate index (usearch) against exact search, and the processor time of both, for growing
            tables: of the vectors of crystals themselves as far as they reach, searched with those of others, then of
            the same vectors with noise.

Each part is stored in the output file when it is done.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from benchmarking import processor, show, versions, write_section
from numpy.typing import NDArray

from cloud_hf.data.assignment import folds_by_crystal
from cloud_hf.metrics import regression_metrics
from cloud_hf.metrics.statistics import ratio_interval
from cloud_hf.screening.index import open_index, search_index
from cloud_hf.screening.search import nearest
from cloud_hf.studies.common.crystals import Crystals
from cloud_hf.studies.common.fitting import encoder_folder, encoder_vectors
from cloud_hf.studies.screening.neighbours import NEIGHBOURS, composition_vectors, neighbour_predictions
from cloud_hf.studies.screening.rows import UNITS, families_of, family_prototypes, read_labelled
from cloud_hf.studies.screening.study import FAMILIES, LABEL_COLUMNS

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("neighbours", "learned", "index")
FOLDS = 5

Vectors = NDArray[np.float32]


def neighbours(scopes: list[str], vectors: Vectors, labels: dict[str, NDArray[np.float64]], asked: int) -> Any:
    """Errors of the mean label of the nearest neighbours, for each quantity, on crystals of all folds."""
    folds = folds_by_crystal(scopes, FOLDS, 0)
    compositions = composition_vectors(scopes)
    results: dict[str, Any] = {"folds": FOLDS, "k": NEIGHBOURS, "quantities": {}}
    for name, values in labels.items():
        rows = np.random.default_rng(0).permutation(np.flatnonzero(~np.isnan(values)))[:asked]
        predicted = {way: np.zeros(len(rows)) for way in ("vectors", "composition", "mean")}
        for fold in range(FOLDS):
            here = np.flatnonzero(folds[rows] == fold)
            train = np.flatnonzero((folds != fold) & ~np.isnan(values))
            places, _ = nearest(vectors[rows[here]], vectors[train], NEIGHBOURS)
            predicted["vectors"][here] = values[train][places].mean(axis=1)
            predicted["composition"][here] = neighbour_predictions(
                compositions[train], values[train], compositions[rows[here]]
            )
            predicted["mean"][here] = values[train].mean()
        errors = {way: np.abs(numbers - values[rows]) for way, numbers in predicted.items()}
        low, high = ratio_interval(errors["vectors"], errors["composition"], resamples=2000)
        results["quantities"][name] = {
            "unit": UNITS[name], "n": len(rows), "neighbours_from": int((~np.isnan(values)).sum()),
            **{way: dict(regression_metrics(values[rows], numbers)) for way, numbers in predicted.items()},
            "ratio": {
                "value": float(errors["vectors"].mean() / errors["composition"].mean()), "low": low, "high": high,
            },
        }  # fmt: skip
    rows_shown = [
        [name, row["n"], row["vectors"]["mae"], row["composition"]["mae"], row["mean"]["mae"], row["unit"]]
        for name, row in results["quantities"].items()
    ]
    show("MAE of neighbours", rows_shown, ["quantity", "N", "by vectors", "by composition", "mean", "unit"])
    return results


def learned(model: str, crystals: Crystals) -> Any:
    """Errors on hidden families of the mean label of the nearest neighbours among all other crystals."""
    family = families_of(crystals.scopes, family_prototypes(FAMILIES))
    hidden = np.array([name is not None for name in family])
    vectors = encoder_vectors(model, crystals.scopes).astype(np.float32)
    compositions = composition_vectors(crystals.scopes)
    errors: dict[str, Any] = {"families": FAMILIES, "k": NEIGHBOURS, "quantities": {}}
    for name, values in crystals.labels.items():
        labelled = ~np.isnan(values)
        rows, train = np.flatnonzero(labelled & hidden), np.flatnonzero(labelled & ~hidden)
        places, _ = nearest(vectors[rows], vectors[train], NEIGHBOURS)
        by_vectors = values[train][places].mean(axis=1)
        by_composition = neighbour_predictions(compositions[train], values[train], compositions[rows])
        errors["quantities"][name] = {
            "unit": UNITS[name], "n": len(rows), "neighbours_from": len(train),
            "vectors": dict(regression_metrics(values[rows], by_vectors)),
            "composition": dict(regression_metrics(values[rows], by_composition)),
        }  # fmt: skip
    shown = [
        [name, row["n"], row["vectors"]["mae"], row["composition"]["mae"]] for name, row in errors["quantities"].items()
    ]
    show("MAE of neighbours, hidden families", shown, ["quantity", "N", "by vectors", "by composition"])
    return errors


def index(vectors: Vectors, sizes: list[int], asked: int, k: int = 10) -> Any:
    """Recall and processor time of the approximate index, for growing numbers of vectors."""
    chance = np.random.default_rng(0)
    spread = 0.1 * vectors.std(axis=0)

    def near(rows: NDArray[np.int64], table: Vectors) -> Vectors:
        noise = spread * chance.standard_normal((len(rows), table.shape[1]), dtype=np.float32)
        measurements = table[rows] + noise
        return np.asarray(measurements / np.linalg.norm(measurements, axis=1, keepdims=True), dtype=np.float32)

    measurements = []
    for size in sizes:
        real = size + asked <= len(vectors)
        if real:
            drawn = chance.permutation(len(vectors))[: size + asked]
            units = vectors[drawn] / np.linalg.norm(vectors[drawn], axis=1, keepdims=True)
            table, queries = units[:size], units[size:]
        else:
            table = near(chance.integers(len(vectors), size=size), vectors)
            queries = near(chance.integers(size, size=asked), table)
        with tempfile.TemporaryDirectory() as folder:
            begin = time.process_time()
            built = open_index(Path(folder, "index"), table)
            made = time.process_time() - begin
            megabytes = Path(folder, "index").stat().st_size / 1e6
        begin = time.process_time()
        places, _ = search_index(built, table, queries, k)
        seconds = time.process_time() - begin
        begin = time.process_time()
        exact, _ = nearest(queries, table, k)
        exactly = time.process_time() - begin
        recall = np.mean([len({*one} & {*two}) / k for one, two in zip(places.tolist(), exact.tolist(), strict=True)])
        measurements.append({
            "vectors": size, "crystals": real, "width": table.shape[1], "queries": asked, "recall_at_10": float(recall),
            "build_seconds": round(made, 1), "file_MB": round(megabytes, 1),
            "index_ms_per_query": 1000 * seconds / asked, "exact_ms_per_query": 1000 * exactly / asked,
        })  # fmt: skip
    show("Index", [[*one.values()] for one in measurements], [*measurements[0]])
    return {"sizes": measurements}


def main() -> None:
    """Run the parts that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", required=True, help="as for `cloud-hf study screening`")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=["neighbours", "index"])
    parser.add_argument("--model", help="checkpoint of `cloud-hf study screening`, for the part `learned`")
    parser.add_argument("--cache", type=Path, default=Path("runs/search"), help="folder that keeps strings")
    parser.add_argument("--asked", type=int, default=3000, help="crystals of each quantity that are predicted")
    parser.add_argument("--sizes", nargs="+", type=int, default=[30_000, 100_000], help="vectors of the index")
    parser.add_argument("--out", type=Path, default=ROOT / "docs/results/search.json")
    arguments = parser.parse_args()
    crystals = read_labelled(arguments.data, LABEL_COLUMNS, arguments.cache)
    machine = {"processor": processor(), **versions(["torch", "usearch"])}
    for part in arguments.parts:
        if part == "learned":
            if arguments.model is None:
                raise SystemExit("--parts learned needs the checkpoint of the study, --model.")
            figures = learned(arguments.model, crystals)
        else:
            vectors = encoder_vectors(str(encoder_folder("default")), crystals.scopes).astype(np.float32)
            if part == "neighbours":
                figures = neighbours(crystals.scopes, vectors, crystals.labels, arguments.asked)
            else:
                figures = index(vectors, arguments.sizes, 200)
        write_section(arguments.out, part, figures | {"machine": machine})


if __name__ == "__main__":
    main()
