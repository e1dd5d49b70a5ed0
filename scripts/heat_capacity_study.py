"""What the studies on heat capacity share: the table, one training on some of its rows, trees on them, paired errors.

A training here is that of `cloud-hf finetune`: the same head, scales, trainer and loss, on rows chosen by the study.
Run by itself, it writes the rows and folds of the studies as a table for `cloud-hf finetune`:

    python scripts/heat_capacity_study.py --split runs/split --output runs/heat_capacity.parquet
"""

import argparse
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from transformers import set_seed
from transformers.utils import logging

from cloud_hf import ScopeEncoder
from cloud_hf.baselines import tree_predictions
from cloud_hf.checkpoints.registration import AutoTokenizer
from cloud_hf.data.assignment import folds_of_strings
from cloud_hf.data.tables import cell_from_row, write_table
from cloud_hf.errors import StudyError
from cloud_hf.files import refuse_other_settings, write_text
from cloud_hf.scope import parse
from cloud_hf.studies.common import folder as studies
from cloud_hf.studies.common.fitting import random_encoder
from cloud_hf.studies.common.folder import digest_of
from cloud_hf.studies.common.scoring import paired
from cloud_hf.training.arguments import CloudTrainingArguments
from cloud_hf.training.finetune_arguments import FinetuneArguments
from cloud_hf.training.finetune_heads import build_model, head_config, set_scales
from cloud_hf.training.finetune_rows import Rows, parse_targets
from cloud_hf.training.finetune_trainer import FinetuneTrainer

__all__ = [
    "BATCH", "HEADS", "LABEL", "LEARNING_RATE", "PRECISION", "ROOT", "TABLE", "UNIT", "HeatCapacities", "Indices",
    "Numbers", "cached", "digest_of", "fit", "paired", "provenance", "quiet", "random_encoder", "read_heat_capacities",
    "trees",
]  # fmt: skip

ROOT = Path(__file__).resolve().parents[1]
TABLE, LABEL, UNIT = "heat_capacity_structures_train", "cloud_cv_J_molcell_K", "J/(mol cell K)"
BATCH, LEARNING_RATE = 32, 5e-4
PRECISION = "bfloat16" if torch.accelerator.is_available() else "float32"
"""That trainings compute in: on CPUs the narrow type gains nothing or is slower."""

HEADS: dict[str, dict[str, Any]] = {
    "debye": {"debye": ["heat_capacity"], "n_atoms": "n_atoms"},
    "per_atom": {"transform": ["per_atom"], "n_atoms": "n_atoms"},
    "per_cell": {"transform": ["standardise"]},
}
"""What a head learns: ln of the Debye temperature, Cv per atom, or Cv per cell, the last two standardised."""

Numbers = NDArray[np.float64]
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class HeatCapacities:
    """The crystals of the study, n in number.

    Attributes:
        table: The table as it was read, structures and phonon densities of states included.
        strings: Strings of each crystal by name: `sites`, `full` and `composition`, canonical, and `released`, the
            paper's own.
        label: Cv at 300 K, J/(mol of primitive cells K), shape (n,).
        n_atoms: Atoms per primitive cell, shape (n,).
        fold: Fold of each crystal, shape (n,).
        folds_from: Where the folds are from.
    """

    table: pd.DataFrame
    strings: dict[str, list[str]]
    label: Numbers
    n_atoms: Numbers
    fold: Indices
    folds_from: str

    def rows(self, index: Sequence[int] | Indices, strings: Sequence[str], tokenizer: Any) -> Rows:
        """Return crystals with the strings that stand for them, as `FinetuneTrainer` takes them."""
        chosen = np.asarray(index, dtype=np.int64)
        names = [str(self.table["id"].iloc[row]) for row in chosen]
        return Rows(
            position=chosen, source=names, scope=list(strings), input_ids=tokenizer(list(strings))["input_ids"],
            group=list(strings), identifier=list(names), labels=self.label[chosen, None], n_atoms=self.n_atoms[chosen],
            temperature=np.full(len(chosen), 300.0),
        )  # fmt: skip


def read_heat_capacities(data: Path, split: Path | None, work: Path) -> HeatCapacities:
    """Read the table of the paper's crystals, encode them once, and give each its fold.

    Args:
        data: Folder of the tables.
        split: What `cloud-hf split` wrote; None: folds by the crystals' own strings alone.
        work: Where the strings are kept.
    """
    table = pd.read_parquet(data / f"{TABLE}.parquet")
    kept = work / "strings.parquet"
    strings = pd.read_parquet(kept) if kept.is_file() else None
    if strings is None or strings["id"].tolist() != table["id"].tolist():
        cells = [cell_from_row(row, str(row["id"])) for _, row in table.iterrows()]
        columns = {name: list(map(ScopeEncoder(name).encode, cells)) for name in ("sites", "full", "composition")}
        strings = pd.DataFrame({"id": table["id"], **columns})
        work.mkdir(parents=True, exist_ok=True)
        write_table(strings, kept)
    sites = strings["sites"].tolist()
    if split is None:
        fold, folds_from = folds_of_strings(sites), "strings"
    else:
        assigned = pd.read_parquet(split / f"{TABLE}.split.parquet")
        if assigned["id"].tolist() != table["id"].tolist():
            raise SystemExit(f"{split}: the split of {TABLE} is of another table; run `cloud-hf split` again.")
        fold, folds_from = assigned["fold"].to_numpy(dtype=np.int64), "cloud-hf split"
    return HeatCapacities(
        table=table,
        strings={name: strings[name].tolist() for name in ("sites", "full", "composition")}
        | {"released": table["cloud_scope"].tolist()},
        label=table[LABEL].to_numpy(dtype=float),
        n_atoms=np.array([float(parse(scope).n_atoms_primitive or 0) for scope in sites]),
        fold=fold,
        folds_from=folds_from,
    )


def fit(
    encoder: Path, train: Rows, tests: Mapping[str, Rows], head: str, seed: int, epochs: float, batch: int = BATCH
) -> dict[str, Numbers]:
    """Fine-tune a head on some rows and predict others; the last step's weights, no selection.

    Args:
        encoder: Folder that `cloud-hf pretrain` or `random_encoder` wrote.
        train: Rows to learn from.
        tests: Rows to predict, by name.
        head: One of `HEADS`.
        seed: Of head, dropout and order.
        epochs: Passes over `train`.
        batch: Strings per step.

    Returns:
        Cv in J/(mol cell K) of each of `tests`, in the order of its rows.
    """
    own = FinetuneArguments(model=str(encoder), data=TABLE, target=[f"{LABEL}:{UNIT}"], baselines=False, **HEADS[head])
    targets = parse_targets(own)
    config = head_config(own, targets)
    set_seed(seed)
    set_scales(own, config, targets, train)
    with tempfile.TemporaryDirectory() as folder:
        training = CloudTrainingArguments(
            output_dir=folder, num_train_epochs=epochs, per_device_train_batch_size=batch, learning_rate=LEARNING_RATE,
            seed=seed, bf16=PRECISION == "bfloat16", logging_strategy="no",
        )  # fmt: skip
        tokenizer = AutoTokenizer.from_pretrained(encoder)
        trainer = FinetuneTrainer(own, training, build_model(own, config), tokenizer, train, None)
        trainer.fit()
        return {name: trainer.predict_rows(rows)[:, 0] for name, rows in tests.items()}


def trees(data: HeatCapacities, train: Indices, test: Indices) -> Numbers:
    """Train the tree baseline on the canonical strings of some rows and predict others, J/(mol cell K)."""
    return tree_predictions(data.strings["sites"], data.label, train, test, "heat_capacity", data.n_atoms)


def cached(path: Path, settings: dict[str, Any], compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return what `path` holds, or compute it and put it there, with the settings and the time it took.

    Raises:
        SystemExit: The file was made with other settings.
    """
    settings = json.loads(json.dumps(settings))
    if path.is_file():
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        try:
            refuse_other_settings(path, found["settings"], settings, error=StudyError)
        except StudyError as error:
            raise SystemExit(str(error)) from error
        return found
    begin = time.perf_counter()
    found = compute()
    found |= {"settings": settings, "seconds": round(time.perf_counter() - begin, 1), **provenance()}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(json.dumps(found) + "\n", path)
    return found


def provenance() -> dict[str, str]:
    """Version and commit of the package (`+`: changed since), torch, and what computed."""
    git = ["git", "-C", str(ROOT)]
    done = subprocess.run([*git, "rev-parse", "--short=10", "HEAD"], capture_output=True, text=True, check=False)
    changed = subprocess.run(
        [*git, "status", "--porcelain", "-uno", "cloud_hf", "scripts"], capture_output=True, text=True, check=False
    )
    return {
        **studies.provenance(),
        "commit": (done.stdout.strip() or "unknown") + ("+" if changed.stdout.strip() else ""),
    }


def quiet() -> None:
    """Leave out what transformers says about every load; trainings keep their bars."""
    logging.set_verbosity_error()
    logging.disable_progress_bar()


def main(arguments: Sequence[str] | None = None) -> None:
    """Write `id`, `scope`, label, `n_atoms` and `fold` of every row, in the order of the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = Path(os.environ.get("CLOUD_SHARED", ROOT.parent / "shared"))
    parser.add_argument("--data", type=Path, default=shared / "data", help="folder of the tables")
    parser.add_argument("--split", type=Path, help="what `cloud-hf split` wrote; without it folds of the strings alone")
    parser.add_argument("--output", type=Path, required=True, help="table to write")
    args = parser.parse_args(arguments)
    data = read_heat_capacities(args.data, args.split, args.output.parent)
    columns = {"id": data.table["id"], "scope": data.strings["sites"], LABEL: data.label, "n_atoms": data.n_atoms}
    write_table(pd.DataFrame(columns | {"fold": data.fold}), args.output)
    print(f"wrote {args.output}: {len(data.label)} rows")


if __name__ == "__main__":
    main()
