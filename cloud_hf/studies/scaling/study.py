"""`cloud-hf study scaling`: the loss of masked words against parameters, data and compute."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from cloud_hf.data.tables import write_table
from cloud_hf.errors import StudyError
from cloud_hf.studies.common.arguments import StudyArguments
from cloud_hf.studies.common.crystals import MAX_TOKENS, read_crystals
from cloud_hf.studies.common.folder import FAILURES_FILE, REPORT_FILE, StudyFolder, digest_of
from cloud_hf.studies.common.report import finish
from cloud_hf.studies.scaling.cells import BASE_WIDTH, Recipe, Size, frequency_loss, nested_corpora, train_cell
from cloud_hf.studies.scaling.figures import figures
from cloud_hf.studies.scaling.laws import EXPONENT_RANGE, fit_cells
from cloud_hf.training.arguments import CloudTrainingArguments, in_range

__all__ = ["REPORT_VALUES", "Arguments", "run"]

REPORT_VALUES = {"EXPONENT_RANGE": EXPONENT_RANGE}


@dataclass
class Arguments(StudyArguments):
    """Pre-train a grid of model sizes x corpus sizes and fit how the loss falls with parameters, data and compute.

    Every model learns masked words from random weights; the loss is measured on strings kept back from all corpora,
    masked alike in every cell. A smaller corpus is contained in a larger one. Several --data tables are joined, each
    distinct canonical string counts once. A finished cell is kept: run the command again after an interruption or with
    more sizes in the same folder. On GPUs start it with torchrun, with larger sizes and --bf16.
    """

    hidden_sizes: list[int] = field(
        default_factory=lambda: [16, 32, 64, 128], metadata={"help": "Widths of the models."}
    )
    layers: list[int] = field(
        default_factory=lambda: [2], metadata={"help": "Layers of each model, or one number for all."}
    )
    corpus_sizes: list[int] = field(
        default_factory=lambda: [1500, 3000, 6000, 12000], metadata={"help": "Strings of the corpora."}
    )
    held_out: int = field(default=2000, metadata={"help": "Strings kept back from all corpora to measure the loss."})
    replicates: int = field(default=1, metadata={"help": "Trainings per cell, each with its own seed."})
    num_train_epochs: float = field(default=4.0, metadata={"help": "Passes over each corpus."})
    per_device_train_batch_size: int = field(default=32, metadata={"help": "Strings per step and process."})
    learning_rate: float = field(
        default=4e-3,
        metadata={"help": "Peak learning rate of a model 64 wide; others get it times 64 / width."},
    )
    weight_decay: float = field(default=0.01, metadata={"help": "Weight decay of AdamW."})
    dropout: float = field(default=0.0, metadata={"help": "Dropout of the models."})
    head_width: int = field(default=32, metadata={"help": "Width of an attention head, at least."})
    max_tokens: int = field(default=MAX_TOKENS, metadata={"help": "Longest string; longer ones are counted as failed."})
    chemistry: bool = field(
        default=False, metadata={"help": "Models read element descriptors and site multiplicities too."}
    )
    bf16: bool = field(default=False, metadata={"help": "Compute in bfloat16: for GPUs; small models gain nothing."})
    resamples: int = field(default=400, metadata={"help": "Fits of the bootstrap over cells."})

    def __post_init__(self) -> None:
        """Refuse values that cannot work."""
        super().__post_init__()
        for name in ("hidden_sizes", "layers", "corpus_sizes"):
            values = getattr(self, name)
            if not values:
                raise StudyError(f"--{name.replace('_', '-')} is empty.")
            for value in values:
                in_range(name, value, 1, 1e9)
        if len(self.layers) not in (1, len(self.hidden_sizes)):
            raise StudyError(
                f"--layers gives {len(self.layers)} numbers for {len(self.hidden_sizes)} --hidden-sizes; give as many, "
                "or one for all."
            )
        in_range("held_out", self.held_out, 1, 1e9)
        in_range("replicates", self.replicates, 1, 100)
        in_range("num_train_epochs", self.num_train_epochs, 1e-3, 1e6)
        in_range("per_device_train_batch_size", self.per_device_train_batch_size, 1, 1e6)
        in_range("learning_rate", self.learning_rate, 1e-9, 1)
        in_range("weight_decay", self.weight_decay, 0, 10)
        in_range("dropout", self.dropout, 0, 0.99)
        in_range("head_width", self.head_width, 1, 1e4)
        in_range("max_tokens", self.max_tokens, 8, 1e5)
        in_range("resamples", self.resamples, 10, 1e6)
        if len(set(self.sizes)) != len(self.sizes) or len(set(self.corpus_sizes)) != len(self.corpus_sizes):
            raise StudyError("--hidden-sizes with --layers, or --corpus-sizes, names a size twice.")

    @property
    def sizes(self) -> list[Size]:
        """Sizes of the models."""
        layers = self.layers * len(self.hidden_sizes) if len(self.layers) == 1 else self.layers
        return [Size(width, depth) for width, depth in zip(self.hidden_sizes, layers, strict=True)]

    @property
    def recipe(self) -> Recipe:
        """How every model is trained."""
        return Recipe(
            self.num_train_epochs, self.per_device_train_batch_size, self.learning_rate, self.weight_decay,
            self.dropout, self.head_width, self.max_tokens, self.chemistry, self.bf16, self.seed,
        )  # fmt: skip


def run(arguments: Arguments) -> Path:
    """Train the cells that are missing, fit, and write results, report and pictures.

    Returns:
        Path of the report.

    Raises:
        StudyError: Too few strings, a training that diverged, a folder of something else.
        TableError: A table that cannot be read.
    """
    recipe = arguments.recipe
    processes = recipe.training(arguments.out, arguments.sizes[0], arguments.seed)
    with processes.main_process_first(local=False, desc="reading strings"):
        folder = StudyFolder(arguments.out, "scaling", _settings(arguments, processes.world_size))
        strings, failures = _strings(arguments, folder.path, processes.process_index == 0)
    kept_back, corpus = nested_corpora(strings, arguments.corpus_sizes, arguments.held_out, arguments.seed)
    plan = [
        (size, n, arguments.seed + replicate)
        for size in arguments.sizes
        for n in sorted(arguments.corpus_sizes)
        for replicate in range(arguments.replicates)
    ]
    cells = []
    for size, n, seed in (bar := tqdm(plan, desc="scaling", unit="cell", disable=None)):
        bar.set_postfix_str(f"{size} on {n:,} strings")

        def compute(size: Size = size, n: int = n, seed: int = seed) -> dict[str, Any]:
            return train_cell(size, corpus[:n], kept_back, recipe, seed)

        cells.append(_shared_cell(folder, f"{size}/{n}/seed_{seed}", compute, processes))
    if processes.process_index:
        return folder.path / REPORT_FILE
    fits = fit_cells(cells, arguments.resamples, arguments.seed)
    results = {
        "unit": "nats per masked word",
        "rows": f"{len(kept_back):,} strings kept back, {cells[0]['masked_words']:,} masked words, the same for all",
        "training": f"{recipe.epochs:g} passes over each corpus, "
        f"{recipe.strings_per_step * processes.world_size} strings per step, AdamW with a cosine schedule and a peak "
        f"learning rate of {recipe.learning_rate:g} x {BASE_WIDTH} / width, decided before the grid was run",
        "tables": [Path(path).name for path in arguments.data],
        "distinct_strings": len(set(strings)),
        "rows_without_a_string": len(failures),
        "word_frequencies": frequency_loss(corpus, kept_back, recipe),
        "cells": cells,
        **fits.as_json(),
    }
    return finish(folder, results, figures(cells, fits))


def _shared_cell(
    folder: StudyFolder, name: str, compute: Callable[[], dict[str, Any]], processes: CloudTrainingArguments
) -> dict[str, Any]:
    """Compute a cell in all processes of a distributed run, of which the first one keeps it."""
    if processes.world_size <= 1:
        return folder.cell(name, compute)
    state: Any = processes.distributed_state
    is_done = folder.has(name)
    state.wait_for_everyone()
    cell = folder.cell(name, compute) if is_done or state.is_main_process else compute()
    state.wait_for_everyone()
    return cell


def _settings(arguments: Arguments, world_size: int) -> dict[str, Any]:
    """What decides the loss of a cell; the grid only selects cells."""
    names = ("held_out", "num_train_epochs", "learning_rate", "weight_decay", "dropout", "head_width", "max_tokens",
             "chemistry", "bf16", "seed")  # fmt: skip
    settings = {name: getattr(arguments, name) for name in names}
    settings["strings_per_step"] = arguments.per_device_train_batch_size * world_size
    settings["tables"] = sorted(digest_of(path) for path in arguments.data)
    return settings


def _strings(arguments: Arguments, folder: Path, is_first: bool) -> tuple[list[str], pd.DataFrame]:
    """Strings of all tables, and the rows without one, which are listed in `failures.csv`."""
    parts = [
        read_crystals(path, cache=folder / "strings", workers=arguments.workers,
                      max_tokens=arguments.max_tokens)
        for path in arguments.data
    ]  # fmt: skip
    failures = pd.concat(
        [part.failures.assign(table=Path(path).name) for part, path in zip(parts, arguments.data, strict=True)]
    )
    if len(failures) and is_first:
        write_table(failures, folder / FAILURES_FILE)
    return [scope for part in parts for scope in part.scopes], failures
