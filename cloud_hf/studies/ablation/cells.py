"""The cells of the grid: each changes one thing against its reference."""

from dataclasses import dataclass
from typing import Any

from cloud_hf.studies.common.fitting import ARCHITECTURE

__all__ = ["BASE", "CELLS", "COPIES", "SCRATCH", "Cell", "Training"]

BASE: dict[str, Any] = ARCHITECTURE | {"max_position_embeddings": 256}
"""Architecture of the encoders without pre-training, long enough for the grammar `full`; --model should have it too."""

COPIES = 10
"""Labellings of each crystal in the training rows of `labelled`; epochs are divided by it."""


@dataclass(frozen=True)
class Training:
    """One training, up to fold and seed.

    Attributes:
        encoder: `mlm`, `quarter`, `multitask`, or `random` for one without pre-training.
        changes: Against `BASE`, of a random encoder.
        strings: What is read: the grammar `sites`, `full` or `composition`; `released`, the paper's own strings;
            `described`, one description of each crystal at random; `labelled`, in training all equivalent labellings in
            turn, `COPIES` copies of each crystal.
        head: One of `common.heat_capacities.HEAD_TARGETS`.
    """

    encoder: str = "mlm"
    changes: tuple[tuple[str, Any], ...] = ()
    strings: str = "sites"
    head: str = "debye"

    @property
    def name(self) -> str:
        """Name of its cell."""
        changed = [f"{name}-{value}" for name, value in self.changes]
        return "_".join([self.encoder, self.strings, self.head, *changed])


@dataclass(frozen=True)
class Cell:
    """One cell of the grid.

    Attributes:
        name: Name of the cell.
        question: What the grid asks with it; cells of one question stand together.
        change: What differs from the reference.
        reference: Cell to compare with.
        adds: Whether the change adds something to the reference; otherwise it takes something away or replaces it.
        training: What is trained for it.
        reads: `one` string of each crystal, or the `mean` over its equivalent labellings.
        seeds: Seeds whose predictions are averaged.
    """

    name: str
    question: str
    change: str
    reference: str | None
    training: Training
    adds: bool = False
    reads: str = "one"
    seeds: tuple[int, ...] = (0,)


def _random(**changes: Any) -> Training:
    strings = changes.pop("strings", "sites")
    return Training("random", tuple(changes.items()), strings)


SCRATCH = _random()

CELLS = (
    Cell("base", "base", "sites grammar, all inputs, MLM pre-training, Debye head", None, Training()),
    Cell("scratch", "pre-training", "no pre-training", "base", SCRATCH),
    Cell("corpus_quarter", "pre-training", "a quarter of the strings, as many epochs", "base", Training("quarter")),
    Cell("multitask", "pre-training", "multi-task labels after MLM", "base", Training("multitask"), adds=True),
    Cell("no_descriptors", "inputs", "no element descriptors", "scratch", _random(element_descriptors=False)),
    Cell("no_multiplicity", "inputs", "no site multiplicity", "scratch", _random(site_multiplicity=False)),
    Cell("pooling_cls", "inputs", "[CLS] alone is pooled", "scratch", _random(pooling="cls")),
    Cell(
        "plain", "inputs", "none of these three", "scratch",
        _random(element_descriptors=False, site_multiplicity=False, pooling="cls"),
    ),
    Cell("composition", "grammar", "`composition`, canonical", "scratch",
         _random(strings="composition")),
    Cell("released", "grammar", "`composition`, the paper's own strings", "scratch", _random(strings="released")),
    Cell("full", "grammar", "`full`, canonical", "scratch", _random(strings="full")),
    Cell(
        "composition_plain", "grammar", "`composition`, canonical, without the three inputs", "plain",
        _random(strings="composition", element_descriptors=False, site_multiplicity=False, pooling="cls"),
    ),
    Cell("random_order", "canonical order", "letters and order of an arbitrary description", "scratch",
         _random(strings="described")),
    Cell("labellings_averaged", "Wyckoff labellings", "mean over the equivalent labellings when predicting", "base",
         Training(), adds=True, reads="mean"),
    Cell("labellings_trained", "Wyckoff labellings", "trained on equivalent labellings", "base",
         Training(strings="labelled"), adds=True),
    Cell("labellings_both", "Wyckoff labellings", "and the mean over them when predicting", "labellings_trained",
         Training(strings="labelled"), adds=True, reads="mean"),
    Cell("per_atom", "head", "Cv per atom, standardised, times atoms; no Debye model", "base",
         Training(head="per_atom")),
    Cell("per_cell", "head", "Cv per cell, standardised: not extensive, no Debye model", "base",
         Training(head="per_cell")),
    Cell("ensemble_3", "ensemble", "mean of three seeds", "base", Training(), adds=True, seeds=(0, 1, 2)),
    Cell("hidden_96", "hidden size", "96 wide instead of 192", "scratch", _random(hidden_size=96)),
    Cell("hidden_256", "hidden size", "256 wide instead of 192", "scratch",
         _random(hidden_size=256, num_attention_heads=8), adds=True),
)  # fmt: skip
