"""Run a screening piece by piece: here in several processes, on a cluster as the tasks of datatrove's executors."""

import json
import multiprocessing
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as parquet
import torch

from cloud_hf.errors import CloudError, WorkerDiedError
from cloud_hf.files import new_file
from cloud_hf.inference.prediction import load_predictors, units_of
from cloud_hf.screening.candidates import Counts
from cloud_hf.screening.evaluation import INCOMPLETE, PROBABILITY, Evaluator, no_hull
from cloud_hf.screening.hull import KnownPhases
from cloud_hf.screening.known import KnownStrings
from cloud_hf.screening.plan import Plan, load_plan
from cloud_hf.screening.wants import HULL, Want, parse_wants

__all__ = ["Totals", "best_rows", "check_wants", "gather", "make_evaluator", "ranked_pieces", "run_piece", "run_pieces"]

CHUNK = 4096
"""Candidates that are in memory at a time; strings of similar length among them go together."""

COUNTS_KEY = b"cloud_hf.screening"


@dataclass
class Totals:
    """What a screening looked at.

    Attributes:
        counts: What became of the products.
        seconds: Of all pieces together, s of one process.
        failed: Candidates that could not be predicted.
        known: Candidates that are known.
        incomplete: Candidates at whose composition the hull must lack phases.
    """

    counts: Counts
    seconds: float = 0.0
    failed: int = 0
    known: int = 0
    incomplete: int = 0


def check_wants(wants: Sequence[str], model: str) -> tuple[list[Want], KnownPhases | None]:
    """Read what is wanted by the configuration of the model, before any weights are loaded.

    Returns:
        The wants, and the known phases if the distance to their hull is among them.

    Raises:
        CloudError: No wants, or one of a quantity that the model does not give.
    """
    units = units_of(model)
    parsed_wants = parse_wants(wants, [*units, HULL])
    if all(want.quantity != HULL for want in parsed_wants):
        return parsed_wants, None
    phases = KnownPhases.bundled()
    if phases.head not in units_of(model, auxiliary=True):
        raise no_hull(phases, units)
    return parsed_wants, phases


def make_evaluator(plan: Plan, known: KnownStrings | None = None, flags: bool = False) -> Evaluator:
    """Load what a piece needs: models, known phases and strings.

    Args:
        plan: What is screened.
        known: Strings of known crystals; None: those in the folder of the plan.
        flags: Load what tells unusual strings too.

    Raises:
        CloudError: A want, a table or a model that cannot be used; tables are read before models.
    """
    wants, phases = check_wants(plan.wants, plan.model)
    if phases is not None and plan.phases is not None:
        phases.add_table(plan.phases)
    known = plan.known_strings() if known is None else known
    predictors = load_predictors(plan.model, likelihood="default" if flags else None, members=plan.members)
    return Evaluator(predictors, wants, plan.source.prototypes, phases, known, plan.temperature, plan.batch_size)


def run_piece(plan: Plan, number: int, evaluator: Evaluator) -> None:
    """Predict the candidates of a piece and write its file, unless it is there."""
    path = plan.piece_path(number)
    if path.is_file():
        return
    begin = time.process_time()
    counts = Counts()
    candidates = plan.source.candidates(number * plan.rows, (number + 1) * plan.rows, counts)
    pieces = [evaluator.rows(chunk) for chunk in iter(lambda: list(islice(candidates, CHUNK)), [])]
    table = pd.concat(pieces, ignore_index=True) if pieces else evaluator.rows([])
    arrow_table = pa.Table.from_pandas(table, preserve_index=False)
    notes = {
        "counts": asdict(counts), "seconds": time.process_time() - begin, "failed": int(table["error"].notna().sum()),
        "known": int(table["known"].fillna(value=False).sum()),
        "incomplete": int(table[INCOMPLETE].fillna(value=False).sum()) if INCOMPLETE in table else 0,
    }  # fmt: skip
    with new_file(path) as aside:
        parquet.write_table(
            arrow_table.replace_schema_metadata({COUNTS_KEY: json.dumps(notes)}), aside, compression="zstd"
        )


def run_pieces(
    plan: Plan, evaluator: Evaluator, processes: int = 1, progress: Callable[[int], Any] | None = None
) -> None:
    """Run all pieces that are not done.

    Args:
        plan: A saved plan.
        evaluator: From `make_evaluator`, for this process.
        processes: Worker processes; each loads the models.
        progress: Called with the number of products of each piece that is done.
    """
    missing = plan.missing
    done = progress or (lambda n: None)

    def size(number: int) -> int:
        return min(plan.rows, len(plan.source) - number * plan.rows)

    if processes == 1 or len(missing) < 2:
        for number in missing:
            run_piece(plan, number, evaluator)
            done(size(number))
        return
    context = multiprocessing.get_context("spawn")  # torch has threads already, which do not survive a fork
    with ProcessPoolExecutor(processes, context, _load, (str(plan.folder),)) as pool:
        waiting = deque(missing)
        running: dict[Future[None], int] = {}
        try:
            while waiting or running:
                while waiting and len(running) < 2 * processes:
                    number = waiting.popleft()
                    running[pool.submit(_work, number)] = number
                finished, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in finished:
                    future.result()
                    done(size(running.pop(future)))
        except BrokenProcessPool as error:
            raise WorkerDiedError(
                "a worker process died; memory may have run out. Give the same command again with fewer processes: "
                "finished pieces stay."
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


_HELD: dict[str, Any] = {}


def _load(folder: str) -> None:
    """Keep plan and models in a worker process."""
    torch.set_num_threads(1)
    plan = load_plan(folder)
    _HELD.update(plan=plan, evaluator=make_evaluator(plan))


def _work(number: int) -> None:
    run_piece(_HELD["plan"], number, _HELD["evaluator"])


def gather(plan: Plan) -> Totals:
    """Add up what the pieces looked at.

    Raises:
        CloudError: Pieces are missing.
    """
    if plan.missing:
        raise CloudError(f"{len(plan.missing)} of {plan.pieces} pieces are missing.", source=str(plan.folder))
    totals = Totals(Counts())
    for number in range(plan.pieces):
        notes = json.loads(parquet.read_schema(plan.piece_path(number)).metadata[COUNTS_KEY])
        totals.counts.add(Counts(**notes["counts"]))
        totals.seconds += notes["seconds"]
        totals.failed += notes["failed"]
        totals.known += notes["known"]
        totals.incomplete += notes["incomplete"]
    return totals


def ranked_pieces(plan: Plan, new: bool = False, whole_hull: bool = False) -> Iterator[pd.DataFrame]:
    """Yield the candidates of each piece that have a probability, all that did not fail.

    Args:
        plan: All its pieces are done.
        new: Leave known crystals out.
        whole_hull: Leave candidates out that lie so low that the hull must lack phases there.
    """
    for path in _pieces(plan):
        table = pd.read_parquet(path)
        table = table[table[PROBABILITY].notna()]
        for name, left_out in (("known", new), (INCOMPLETE, whole_hull)):
            if left_out and name in table:
                table = table[~table[name].fillna(value=False).astype(bool)]
        yield table


def best_rows(
    plan: Plan, top: int, columns: dict[str, str], new: bool = False, whole_hull: bool = False
) -> pd.DataFrame:
    """Return the candidates with the highest chance to meet all wants, best first; of equal ones the first.

    Args:
        plan: All its pieces are done.
        top: How many.
        columns: Columns and dtypes, those of the evaluator.
        new: Leave known crystals out.
        whole_hull: As for `ranked_pieces`.
    """
    best: pd.DataFrame | None = None
    for table in ranked_pieces(plan, new, whole_hull):
        table = table.nlargest(top, PROBABILITY)
        both = table if best is None else pd.concat([best, table], ignore_index=True)
        best = both.nlargest(top, PROBABILITY, keep="first")
    assert best is not None  # noqa: S101  (there is a piece)
    return best.reset_index(drop=True).astype(columns)


def _pieces(plan: Plan) -> Iterator[Path]:
    return (plan.piece_path(number) for number in range(plan.pieces))
