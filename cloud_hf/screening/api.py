"""`cloud_hf.screen`: prototypes and elements to the candidates that are most likely to be what is wanted."""

import os
import re
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from cloud_hf.data.tables import check_output, write_table
from cloud_hf.errors import CloudError
from cloud_hf.files import write_json
from cloud_hf.inference.likelihood import StringLikelihood
from cloud_hf.inference.prediction import Predictors, check_batch_size, checked_temperature
from cloud_hf.scope import TIMEOUT
from cloud_hf.screening.candidates import DEFAULT_LIMIT, Counts, Product
from cloud_hf.screening.chemistry import Rules
from cloud_hf.screening.elements import parse_elements, parse_slots
from cloud_hf.screening.evaluation import HULL_UNIT, Evaluator
from cloud_hf.screening.known import KnownStrings
from cloud_hf.screening.pareto import pareto_front, plot_front
from cloud_hf.screening.plan import Plan, Proposals
from cloud_hf.screening.proposals import Proposed, Sampling, propose
from cloud_hf.screening.prototypes import Prototype, read_prototypes
from cloud_hf.screening.run import Totals, best_rows, check_wants, gather, make_evaluator, run_pieces
from cloud_hf.screening.structures import write_structure
from cloud_hf.screening.wants import HULL, Want

__all__ = ["Screening", "prepare", "run_screening", "screen"]

AUTO = "auto"
"""Among the elements: the language model proposes those of the slots that are not named."""

TOP_FILE = "top.csv"
SUMMARY_FILE = "summary.json"
STRUCTURE = "structure"
"""Column with the CIF of a kept candidate."""


@dataclass(frozen=True)
class Screening:
    """The result of a screening.

    Attributes:
        top: The best candidates, best first; columns as in the files of the folder.
        totals: What was looked at.
        wants: What was wanted.
        products_per_second: Products by the wall clock of this run; None if nothing was left to do.
        front: The Pareto front, if it was asked for.
        problems: Kept candidates without a structure, and why.
        proposed: What became of the draws of the language model, if it proposed the candidates.
    """

    top: pd.DataFrame
    totals: Totals
    wants: list[Want]
    products_per_second: float | None
    front: pd.DataFrame | None = None
    problems: list[str] = field(default_factory=list)
    proposed: Proposed | None = None


def screen(
    prototypes: Any = None,
    elements: Mapping[str, str | Sequence[str]] | Sequence[str] = (),
    want: str | Sequence[str] = (),
    *,
    model: str = "default",
    top: int = 100,
    neutral: bool = True,
    ordered: bool = True,
    alloys: bool = True,
    known: Sequence[str] = (),
    new: bool = False,
    whole_hull: bool = False,
    phases: str | None = None,
    structures: str | os.PathLike[str] | None = None,
    output: str | os.PathLike[str] | None = None,
    temperature: float = 300.0,
    limit: int | None = DEFAULT_LIMIT,
    processes: int = 1,
    timeout: float | None = TIMEOUT,
    batch_size: int = 256,
    members: int | None = None,
    sampling: Sampling | None = None,
    progress: bool | None = None,
) -> pd.DataFrame:
    """Screen hypothetical crystals.

    Args:
        prototypes: Names of the prototypes inside the package, crystal files, SCOPE strings, tables, corpora or
            structures; None: all prototypes inside the package.
        elements: Elements of slots, e.g. `{"A": ["Li", "Na"], "X": "chalcogens"}` or `["A=Li,Na", "X=chalcogens"]`;
            other slots take all stable elements, or with `"auto"` in the list those that the language model proposes.
        want: What is wanted, e.g. `["band_gap=1.1:1.7", "energy_above_hull<=0.1"]`.
        model: `default` (inside the package), a checkpoint folder or a Hub id.
        top: How many candidates to return.
        neutral: Oxidation states must add up to zero.
        ordered: Cations must be less electronegative than anions.
        alloys: Compounds of metals alone need neither.
        known: Files or tables of crystals that are known, besides those of the Materials Project.
        new: Return no known crystals.
        whole_hull: Return no candidates that lie so low that the hull must lack phases there.
        phases: Table of phases for the hull, with the columns `formula`, `formation_energy_per_atom` and `vintage`.
        structures: Folder for a CIF of each returned candidate, a starting point for relaxation.
        output: Folder for all candidates; the same call goes on where it was stopped.
        temperature: K, for thermal properties.
        limit: Most products of prototypes and elements; None: any number.
        processes: Worker processes.
        timeout: Longest time for reading one crystal of `prototypes` and `known`, s; None sets no limit.
        batch_size: Strings per forward pass.
        members: Predict by the first members of an ensemble alone, which is faster; None: by all.
        sampling: How the language model draws proposals.
        progress: Whether to show a bar; None: on a terminal.

    Returns:
        A row for each of the best candidates, best first. `probability` is the chance that all wants are met, by the
        calibrated intervals; `energy_above_hull (eV/atom)` comes with its interval and the competing phases.

    Raises:
        CloudError: What cannot be screened, before any work starts.
    """
    with ExitStack() as stack:
        folder = Path(output) if output is not None else Path(stack.enter_context(tempfile.TemporaryDirectory()))
        plan, evaluator = prepare(
            folder, prototypes, elements, want, model=model, rules=Rules(neutral, ordered, alloys), known=known,
            phases=phases, structures=structures, temperature=temperature, limit=limit, batch_size=batch_size,
            members=members, sampling=sampling, processes=processes, timeout=timeout,
        )  # fmt: skip
        return run_screening(
            plan, evaluator, top=top, new=new, whole_hull=whole_hull, structures=structures, processes=processes,
            progress=progress,
        ).top  # fmt: skip


def prepare(
    folder: Path,
    prototypes: Any = None,
    elements: Mapping[str, str | Sequence[str]] | Sequence[str] = (),
    want: str | Sequence[str] = (),
    *,
    model: str = "default",
    rules: Rules | None = None,
    known: Sequence[str] = (),
    phases: str | None = None,
    structures: str | os.PathLike[str] | None = None,
    temperature: float = 300.0,
    limit: int | None = DEFAULT_LIMIT,
    batch_size: int = 256,
    members: int | None = None,
    sampling: Sampling | None = None,
    rows: int = 20_000,
    processes: int = 1,
    timeout: float | None = TIMEOUT,
) -> tuple[Plan, Evaluator]:
    """Check everything that a screening needs and save its plan; arguments as for `screen`.

    Returns:
        The plan, and what evaluates it.

    Raises:
        CloudError: What cannot be screened.
    """
    wants = (want,) if isinstance(want, str) else tuple(want)
    check_wants(wants, model)
    temperature = checked_temperature(temperature)
    check_batch_size(batch_size)
    given = [elements] if isinstance(elements, str) else elements
    automatic = not isinstance(given, Mapping) and AUTO in given
    slots = _slots([text for text in given if text != AUTO] if automatic else given)
    chosen = read_prototypes(prototypes, processes, timeout)
    if structures is not None:
        if automatic and sampling is not None and sampling.sites:
            raise CloudError("sites that the language model draws have no structure to write; leave one of both out.")
        _need_structures(chosen)
        check_output(Path(structures) / "structure.cif")
    source: Product | Proposals
    proposing: dict[str, Any] = {}
    if automatic:
        draw = sampling or Sampling()
        strings = KnownStrings.bundled().and_of(known, processes, timeout)
        source, proposed = _proposals(chosen, slots, draw, rules, strings)
        proposing = {"sampling": asdict(draw), "proposed": proposed.record()}
    else:
        source = Product.of(chosen, slots, rules, limit)
        if next(source.candidates(counts=(counts := Counts())), None) is None:
            raise CloudError(f"nothing is left to screen. {counts}.")
        strings = KnownStrings.bundled().and_of(known, processes, timeout)
    plan = Plan(
        folder, source, wants, model, temperature, tuple(map(str, known)), phases, rows, batch_size, members, proposing
    )
    evaluator = make_evaluator(plan, strings, flags=True)
    plan.save(strings)
    return plan, evaluator


def run_screening(
    plan: Plan,
    evaluator: Evaluator,
    *,
    top: int = 100,
    new: bool = False,
    whole_hull: bool = False,
    structures: str | os.PathLike[str] | None = None,
    picture: str | None = None,
    processes: int = 1,
    progress: bool | None = None,
) -> Screening:
    """Run what is left of a screening, and choose the best.

    Args:
        plan: From `prepare`.
        evaluator: Likewise.
        top: How many candidates to keep.
        new: Keep no known crystals.
        whole_hull: Keep no candidates that lie so low that the hull must lack phases there.
        structures: Folder for a CIF of each kept candidate.
        picture: File for the Pareto front of the first two wants.
        processes: Worker processes.
        progress: Whether to show a bar; None: on a terminal.

    Raises:
        CloudError: A file that cannot be written, or fewer than two wants for a front.
    """
    if picture is not None and len(evaluator.wants) < 2:
        raise CloudError("a Pareto front needs two wants.")
    begin, missing = time.perf_counter(), plan.missing
    size = sum(min(plan.rows, len(plan.source) - number * plan.rows) for number in missing)
    shown = None if progress is None else not progress
    with tqdm(
        total=len(plan.source), initial=len(plan.source) - size, desc="screen", unit="product", disable=shown
    ) as bar:
        run_pieces(plan, evaluator, processes, bar.update)
    rate = size / (time.perf_counter() - begin) if missing else None
    totals = gather(plan)
    best = best_rows(plan, top, evaluator.columns, new, whole_hull)
    best = _with_likelihood(best, evaluator.predictors)
    problems: list[str] = []
    if structures is not None:
        best[STRUCTURE], problems = _write_structures(best, plan.source.prototypes, Path(structures))
    front = None
    if picture is not None:
        pair = evaluator.wants[:2]
        columns = [_column(want, evaluator) for want in pair]
        front, sample = pareto_front(plan, pair, columns, new)
        plot_front(front, sample, pair, columns, picture)
    write_table(best, plan.folder / TOP_FILE)
    write_json(
        {"totals": str(totals.counts), "failed": totals.failed, "known": totals.known, "incomplete": totals.incomplete},
        plan.folder / SUMMARY_FILE,
    )
    proposed = Proposed(**plan.proposing["proposed"]) if plan.proposing else None
    return Screening(best, totals, evaluator.wants, rate, front, problems, proposed)


def _proposals(
    prototypes: Sequence[Prototype],
    slots: Mapping[str, Sequence[str]],
    sampling: Sampling,
    rules: Rules | None,
    known: KnownStrings,
) -> tuple[Proposals, Proposed]:
    for name in slots:
        if all(prototype.slot(name) is None for prototype in prototypes):
            raise CloudError(f"no prototype has a slot {name!r}.")
    source, proposed = propose(prototypes, slots, StringLikelihood.bundled(), known, sampling, rules)
    if not len(source):
        raise CloudError(f"nothing is left to screen. {proposed}.")
    return source, proposed


def _slots(elements: Any) -> dict[str, tuple[str, ...]]:
    if isinstance(elements, str):
        elements = [elements]
    if not isinstance(elements, Mapping):
        return dict(parse_slots(elements))
    return {
        slot: parse_elements(given if isinstance(given, str) else ",".join(given)) for slot, given in elements.items()
    }


def _need_structures(prototypes: Iterable[Prototype]) -> None:
    without = [prototype.name for prototype in prototypes if prototype.structure is None]
    if without:
        raise CloudError(
            f"{', '.join(without[:5])}: a prototype that is given as a string has no structure to write; give it as a "
            "crystal file, or leave out the folder of structures."
        )


def _column(want: Want, evaluator: Evaluator) -> str:
    unit = HULL_UNIT if want.quantity == HULL else evaluator.predictors.units[want.quantity]
    return f"{want.quantity} ({unit})"


def _with_likelihood(best: pd.DataFrame, predictors: Predictors) -> pd.DataFrame:
    """Add how usual the strings are, where the models know it."""
    likelihood = predictors.likelihood
    if likelihood is None or best.empty:
        return best
    values = likelihood(best["scope"].tolist())
    outside = likelihood.outside(values)
    best["log_likelihood"] = values
    if outside is not None:
        best["out_of_distribution"] = pd.array(outside, dtype="boolean")
    return best


def _write_structures(
    best: pd.DataFrame, prototypes: Sequence[Prototype], folder: Path
) -> tuple[list[str | None], list[str]]:
    by_name = {one.name: one for one in prototypes}
    paths: list[str | None] = []
    problems: list[str] = []
    for place, row in enumerate(best.to_dict("records"), start=1):
        prototype = by_name[row["prototype"]]
        elements = [part.partition("=")[2] for part in row["elements"].split()]
        name = re.sub(r"[^\w.-]", "_", f"{place:04d}_{row['formula']}_{prototype.name}.cif")
        try:
            write_structure(prototype, elements, row["scope"], folder / name)
        except CloudError as error:
            paths.append(None)
            problems.append(str(error))
        else:
            paths.append(name)
    return paths, problems
