"""The plan of a corpus: its settings and its tasks, fixed when it is begun and kept in its folder."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from cloud_hf.corpus.encoding import package_versions
from cloud_hf.corpus.schema import Folders, save_json
from cloud_hf.corpus.sources import Task, plan_tasks
from cloud_hf.crystals.readers import MAX_ATOMS
from cloud_hf.errors import CloudError, CorpusError, about, one_line
from cloud_hf.files import refuse_other_settings
from cloud_hf.scope import ScopeEncoder
from cloud_hf.scope.grammar import GRAMMARS

__all__ = ["BuildSettings", "Plan", "load_plan", "make_plan"]

BUCKET_ROWS = 500_000
"""Rows whose hashes are compared in one task: 16 MB."""


@dataclass(frozen=True)
class BuildSettings:
    """What decides the rows of a corpus beside its inputs.

    Args:
        grammars: Columns of strings.
        symprec: Distance tolerance of the symmetry search in Å.
        angle_tolerance: Angle tolerance of the symmetry search in degrees (spglib only).
        symmetry: Back-end of the symmetry search.
        max_atoms: Largest number of sites in a cell.
        rows: Crystals per task, and so per shard before duplicates are taken out.
        license: Of rows that do not say theirs.
        trust_sites: Take sites as they are where what the source says beside them speaks against them.
    """

    grammars: tuple[str, ...] = GRAMMARS
    symprec: float = 0.01
    angle_tolerance: float = 5.0
    symmetry: str = "spglib"
    max_atoms: int = MAX_ATOMS
    rows: int = 10_000
    license: str | None = None
    trust_sites: bool = False

    def __post_init__(self) -> None:
        """Refuse settings that cannot work."""
        known = [grammar for grammar in GRAMMARS if grammar in self.grammars]
        if not known or len(known) != len(set(self.grammars)):
            raise CorpusError(f"grammars must be some of {', '.join(GRAMMARS)}, not {self.grammars}.")
        if self.rows < 1:
            raise CorpusError(f"a task must have at least 1 crystal, not {self.rows}.")
        object.__setattr__(self, "grammars", tuple(known))

    def encoder(self, grammar: str = "sites") -> ScopeEncoder:
        """Return the encoder of one grammar."""
        search = self.symprec, self.angle_tolerance, self.symmetry
        return ScopeEncoder(grammar, True, *search, self.max_atoms, self.trust_sites)


@dataclass(frozen=True)
class Plan:
    """A plan, without what its tasks read.

    Attributes:
        inputs: As they were given.
        settings: What decides the rows.
        encoder: `ScopeEncoder.settings` of the grammar `sites`.
        versions: Packages that the rows depend on.
        tasks: How many there are.
        buckets: In how many parts duplicates are looked for.
        rows: Crystals, as far as known beforehand.
    """

    inputs: tuple[str, ...]
    settings: BuildSettings
    encoder: str
    versions: str
    tasks: int
    buckets: int
    rows: int


def make_plan(inputs: Sequence[str], folders: Folders, settings: BuildSettings) -> Plan:
    """Return the plan of a corpus: the one in its folder if it has one, else a new one, written task by task.

    Raises:
        CorpusError: The folder holds a corpus of other inputs or settings, an input cannot be used, or there are none.
    """
    if (folders.plan / "plan.json").is_file():
        plan = load_plan(folders)
        settings = settings if inputs else plan.settings  # going on: all that matters is in the folder
        encoder, versions = settings.encoder().settings, package_versions()
        _refuse_other(plan, Plan(tuple(inputs) or plan.inputs, settings, encoder, versions, 0, 0, 0), folders.root)
        return plan
    encoder, versions = settings.encoder().settings, package_versions()
    if not inputs:
        raise CorpusError(
            "there is no corpus to go on with; name what it is to be built from.", source=str(folders.root)
        )
    number = rows = 0
    for number, task in enumerate(plan_tasks(inputs, settings.rows), 1):
        rows += int(task["rows"])
        save_json(task, _task_path(folders, number - 1))
    if not number:
        raise CorpusError("there are no crystals.", source=", ".join(inputs))
    plan = Plan(tuple(inputs), settings, encoder, versions, number, -(-rows // BUCKET_ROWS) or 1, rows)
    save_json(asdict(plan), folders.plan / "plan.json")
    return plan


def load_plan(folders: Folders) -> Plan:
    """Read the plan of a corpus.

    Raises:
        CorpusError: There is none, or it is damaged.
    """
    path = folders.plan / "plan.json"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        settings = record.pop("settings")
        settings = BuildSettings(**(settings | {"grammars": tuple(settings["grammars"])}))
        return Plan(**(record | {"inputs": tuple(record["inputs"]), "settings": settings}))
    except CloudError as error:
        raise about(error, str(path)) from error.__cause__
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise CorpusError(f"the plan of the corpus cannot be read ({one_line(error)}).", source=str(path)) from error


def load_task(folders: Folders, number: int) -> Task:
    """Read what one task is to read.

    Raises:
        CorpusError: The file is missing or damaged.
    """
    path = _task_path(folders, number)
    try:
        task: Task = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CorpusError(f"a task of the plan cannot be read ({one_line(error)}).", source=str(path)) from error
    return task


def _task_path(folders: Folders, number: int) -> Path:
    return folders.plan / f"{number:05d}.json"


def _refuse_other(plan: Plan, wanted: Plan, root: Path) -> None:
    """A folder holds one corpus: going on with other inputs or settings would mix two."""
    old, new = (
        {**asdict(each.settings), "inputs": each.inputs, "encoder": each.encoder, "versions": each.versions}
        for each in (plan, wanted)
    )
    remedy = "Repeat the command as it was, or choose another folder."
    refuse_other_settings(root, old, new, remedy=remedy, error=CorpusError)
