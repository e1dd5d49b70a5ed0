"""`encode_batch`: many crystals, one row each, in order; no input is lost and none can hang the others."""

import multiprocessing
from collections.abc import Iterable, Iterator
from typing import Any

from tqdm import tqdm

from cloud_hf.errors import CloudError
from cloud_hf.parallel.pool import Pool
from cloud_hf.parallel.worker import Encoder, Several, attempt

__all__ = ["TIMEOUT", "Outcome", "encode_batch", "encode_pairs"]

TIMEOUT = 60.0
"""s; longest time for one crystal where none is given: of ordinary crystals the slowest take a few seconds."""

Outcome = Any | CloudError
"""What the encoder's `describe` returns, or why there is nothing."""


def encode_batch(
    encoder: Encoder,
    crystals: Iterable[Any],
    processes: int = 1,
    timeout: float | None = TIMEOUT,
    chunk_size: int | None = None,
    progress: bool = False,
) -> Iterator[Outcome]:
    """Encode crystals in worker processes; each input gives one row, in the order of the inputs.

    Args:
        encoder: The encoder; a copy of it works in each process.
        crystals: Anything that the encoder takes; may be a generator, which is read as the work proceeds.
        processes: Worker processes. One is used even for 1, because only a process of its own can be stopped at
            the time limit; with `timeout=None`, 1 means this very process.
        timeout: Longest time for one crystal, s. `None` sets no limit.
        chunk_size: Crystals that a worker is handed at a time. Default: as many as take about 50 ms.
        progress: Whether to show a bar on the terminal.

    Returns:
        An iterator over rows of the encoder (`EncodedCrystal`), or the `CloudError` that says why there is none (never
        raised). An exception of `crystals` itself is raised after the rows before it. Leaving the iterator early
        ends the workers.

    Raises:
        CloudError: An argument that cannot work.
        WorkerStartError: While iterating: three worker processes in a row died before they were ready.
    """
    rows = _started(encoder, crystals, processes, timeout, chunk_size, keep=False)
    return _shown(rows, getattr(crystals, "__len__", lambda: None)()) if progress else rows


def encode_pairs(
    encoder: Encoder, crystals: Iterable[Any], processes: int = 1, timeout: float | None = TIMEOUT
) -> Iterator[tuple[Any, Outcome]]:
    """Encode as `encode_batch` does, where an input may hold several crystals.

    Args:
        encoder: The encoder; where it answers `Several`, each of those is an input with a time limit of its own.
        crystals: As for `encode_batch`, and so are the others.
        processes: Worker processes.
        timeout: Longest time for one crystal, s.

    Returns:
        An iterator over pairs of a crystal and its row.
    """
    pairs: Iterator[tuple[Any, Outcome]] = _started(encoder, crystals, processes, timeout, None, keep=True)
    return pairs


def _started(
    encoder: Encoder,
    crystals: Iterable[Any],
    processes: int,
    timeout: float | None,
    chunk_size: int | None,
    keep: bool,
) -> Iterator[Any]:
    """Rows, or with `keep` pairs of crystal and row."""
    if processes < 1 or (chunk_size is not None and chunk_size < 1):
        raise CloudError("processes and chunk_size must be 1 or more.")
    if timeout is not None and not timeout > 0:
        raise CloudError(f"timeout must be a positive number of seconds or None, not {timeout}.")
    if processes == 1 and timeout is None:
        return (pair if keep else pair[1] for pair in _here(encoder, crystals))
    if multiprocessing.current_process().daemon:
        raise CloudError("A daemonic process cannot start workers; use processes=1, timeout=None here.")
    return _once(Pool(encoder, processes, timeout, chunk_size), crystals, keep)


def _here(encoder: Encoder, crystals: Iterable[Any]) -> Iterator[tuple[Any, Outcome]]:
    """Pairs of crystal and row, made in this process."""
    open_inputs = [iter(crystals)]
    while open_inputs:
        for crystal in open_inputs[-1]:
            outcome = attempt(encoder, crystal)
            if isinstance(outcome, Several):
                open_inputs.append(iter(outcome.inputs))
                break
            yield crystal, outcome
        else:
            open_inputs.pop()


def _once(pool: Pool, crystals: Iterable[Any], keep: bool) -> Iterator[Any]:
    try:
        yield from pool.pairs(crystals) if keep else pool.rows(crystals)
    finally:
        pool.close()


class _Bar(tqdm):  # type: ignore[type-arg]
    monitor_interval = 0  # no thread: a process with threads is not forked


def _shown(rows: Iterator[Outcome], total: int | None) -> Iterator[Outcome]:
    with _Bar(total=total, unit="crystal", desc="encoding") as bar:
        for row in rows:
            bar.update()
            yield row
