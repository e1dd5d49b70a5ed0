"""What a screening is: settings in a folder, from which any process on any machine can work on a piece of it.

FOLDER/screen.json          the settings
FOLDER/known.parquet        hashes of known crystals, if the user named some, so that no process reads those again
FOLDER/proposals.parquet    candidates that a language model proposed, if it did
FOLDER/all/000000.parquet   every candidate of a piece, with what was predicted
FOLDER/top.csv              the best of all, with FOLDER/summary.json
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from transformers.utils import SAFE_WEIGHTS_NAME

from cloud_hf.data.tables import check_output, write_table
from cloud_hf.errors import CloudError, OutputError, about, one_line
from cloud_hf.files import read_json, refuse_other_settings, write_json
from cloud_hf.inference.prediction import model_paths
from cloud_hf.screening.candidates import Candidate, Counts, Product
from cloud_hf.screening.chemistry import Rules
from cloud_hf.screening.known import KnownStrings
from cloud_hf.screening.prototypes import Prototype

__all__ = ["PLAN_FILE", "Plan", "Proposals", "load_plan"]

PLAN_FILE = "screen.json"
PROPOSALS_FILE = "proposals.parquet"
KNOWN = "known.parquet"
PIECES = "all"


@dataclass(frozen=True)
class Proposals:
    """Candidates that are listed, not enumerated.

    Args:
        prototypes: Their prototypes; those of other sites than a given prototype are among them.
        listed: The candidates.
    """

    prototypes: Sequence[Prototype]
    listed: Sequence[Candidate]

    def __len__(self) -> int:
        return len(self.listed)

    def candidates(self, start: int = 0, stop: int | None = None, counts: Counts | None = None) -> Iterator[Candidate]:
        """Yield the candidates of a range."""
        counts = Counts() if counts is None else counts
        for candidate in self.listed[start:stop]:
            counts.products += 1
            counts.candidates += 1
            yield candidate


@dataclass(frozen=True)
class Plan:
    """A screening.

    Attributes:
        folder: Where it is kept.
        source: The candidates.
        wants: As the user wrote them.
        model: `default`, a checkpoint folder or a Hub id.
        temperature: K, for thermal properties.
        known: Inputs whose crystals are known too.
        phases: Table of the user's phases.
        rows: Products in a piece.
        batch_size: Strings per forward pass.
        members: Members of an ensemble that predict, the first ones; None: all.
        proposing: How a language model proposed the candidates, if it did.
    """

    folder: Path
    source: Product | Proposals
    wants: tuple[str, ...]
    model: str = "default"
    temperature: float = 300.0
    known: tuple[str, ...] = ()
    phases: str | None = None
    rows: int = 20_000
    batch_size: int = 256
    members: int | None = None
    proposing: dict[str, Any] = field(default_factory=dict)

    @property
    def pieces(self) -> int:
        """How many pieces there are."""
        return -(-len(self.source) // self.rows)

    def piece_path(self, number: int) -> Path:
        """File of a piece."""
        return self.folder / PIECES / f"{number:06d}.parquet"

    @property
    def missing(self) -> list[int]:
        """Pieces that are not done."""
        return [number for number in range(self.pieces) if not self.piece_path(number).is_file()]

    def known_strings(self) -> KnownStrings:
        """Return the strings of known crystals that `save` kept."""
        path = self.folder / KNOWN
        return KnownStrings.load(path) if path.is_file() else KnownStrings.bundled().and_of(self.known)

    def settings(self) -> dict[str, Any]:
        """All that decides the rows, as JSON can hold it."""
        product = self.source if isinstance(self.source, Product) else None
        names = {"name", "formula", "space_group", "orbits", "slots", "elements"}
        return {
            "prototypes": [{name: getattr(prototype, name) for name in sorted(names)}
 for prototype in self.source.prototypes],
            "pools": None if product is None else product.pools,
            "rules": None if product is None else asdict(product.rules),
            "wants": list(self.wants), "model": self.model, "weights": _weights(self.model),
            "temperature": self.temperature, "known": list(self.known), "phases": self.phases, "rows": self.rows,
            "batch_size": self.batch_size, "members": self.members, "proposing": self.proposing,
        }  # fmt: skip

    def save(self, known: KnownStrings | None = None) -> None:
        """Write the settings, or find that the folder holds a screening with the same ones.

        Args:
            known: Strings of known crystals; None keeps none.

        Raises:
            CloudError: It holds another screening, or other files.
        """
        path = self.folder / PLAN_FILE
        check_output(path)
        settings = self.settings()
        if path.is_file():
            before = read_json(path, remedy="Give a new folder.")
            refuse_other_settings(self.folder, _short(before), _short(settings))
            refuse_other_settings(self.folder, before, settings)
        elif self.folder.is_dir() and any(self.folder.iterdir()):
            raise OutputError("holds other files; give a new folder.", source=str(self.folder))
        if isinstance(self.source, Proposals):
            write_table(_proposal_table(self.source.listed), self.folder / PROPOSALS_FILE)
        if known is not None and self.known:
            known.save(self.folder / KNOWN)
        write_json(settings, path)


def load_plan(folder: str | Path) -> Plan:
    """Read the plan that `Plan.save` wrote.

    Raises:
        CloudError: There is none that can be read.
    """
    folder = Path(folder)
    try:
        saved = json.loads((folder / PLAN_FILE).read_text(encoding="utf-8"))
        prototypes = [_prototype(fields) for fields in saved["prototypes"]]
        source: Product | Proposals
        if saved["pools"] is None:
            source = Proposals(prototypes, _listed(pd.read_parquet(folder / PROPOSALS_FILE)))
        else:
            pools = [tuple(map(tuple, pool)) for pool in saved["pools"]]
            source = Product(prototypes, pools, Rules(**saved["rules"]))
        names = ("model", "temperature", "phases", "rows", "batch_size", "members", "proposing")
        lists: dict[str, Any] = {name: tuple(saved[name]) for name in ("wants", "known")}
        return Plan(folder, source, **lists, **{name: saved[name] for name in names})
    except CloudError as error:
        raise about(error, str(folder)) from error.__cause__
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CloudError(f"holds no screening that can be read ({one_line(error)}).", source=str(folder)) from error


def _prototype(saved: dict[str, Any]) -> Prototype:
    """A prototype, without its structure, from its settings."""
    return Prototype(
        saved["name"],
        saved["formula"],
        saved["space_group"],
        tuple((slot, word) for slot, word in saved["orbits"]),
        tuple(saved["slots"]),
        tuple(saved["elements"]),
    )


def _short(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings that a message can quote."""
    return {name: value for name, value in settings.items() if name not in ("prototypes", "pools")}


def _weights(model: str) -> str | None:
    """What tells weights from others: sizes and times of the files of local checkpoints."""
    stats = [Path(path, SAFE_WEIGHTS_NAME) for path in sorted(model_paths(model))]
    return " ".join(f"{file.parent.name}:{file.stat().st_size}" for file in stats if file.is_file()) or None


def _proposal_table(listed: Sequence[Candidate]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "prototype": [candidate.prototype for candidate in listed],
            "elements": [" ".join(candidate.elements) for candidate in listed],
            "scope": [candidate.scope for candidate in listed],
            "n_atoms": [candidate.n_atoms for candidate in listed],
            "log_probability": np.array([candidate.log_probability for candidate in listed], dtype=float),
        }
    )


def _listed(table: pd.DataFrame) -> list[Candidate]:
    return [
        Candidate(
            int(row["prototype"]),
            tuple(row["elements"].split()),
            row["scope"],
            int(row["n_atoms"]),
            row["log_probability"],
        )
        for row in table.to_dict("records")
    ]
