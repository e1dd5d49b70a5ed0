"""`encode_batch`: many crystals, one row each, in order; no input is lost and none can hang the others.

Why not a library: pebble's pool gives up a whole chunk when one of its tasks dies or runs out of time, and has an
open race that leaves a task without an answer (noxdafox/pebble issues 132 and 153); joblib and concurrent.futures
lose every pending task with one dead worker. So each worker here has a connection of its own (no shared queue, whose
lock a killed worker would keep) and answers crystal by crystal, which tells what was done and what was being done.
"""

import contextlib
import multiprocessing
import pickle
import signal
import sys
import threading
import time
import warnings
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from os import PathLike
from pathlib import Path
from typing import Any, Protocol

from tqdm import TMonitor, tqdm

from cloud_hf.errors import (
    CloudError,
    CrystalError,
    EncoderFailureError,
    EncodingTimeoutError,
    WorkerDiedError,
    WorkerStartError,
)
from cloud_hf.scope.encoder import EncodedCrystal

__all__ = [
    "encode_batch",
]

CHUNK_SECONDS = 0.05
"""s; a worker is handed crystals for about this long at a time, so that handing over costs little."""

GATHER_SECONDS = 0.01
"""s; how long answers may lie while every worker has more to do."""

MAX_CHUNK = 64
MAX_AHEAD = 4096
"""Rows that may wait for a slow crystal before them; beyond that the workers wait too, and memory stays flat."""

MAX_FAILED_STARTS = 3
START_SECONDS = 120.0
"""s; importing the package takes ten on a busy machine."""

TICK_SECONDS = 1.0
"""s; how often workers are looked at, should the end of one go unnoticed."""


class Encoder(Protocol):
    """What turns one crystal into a row: a `ScopeEncoder`, or anything picklable with its `describe`."""

    def describe(self, crystal: Any) -> EncodedCrystal:
        """Return the string and what belongs to it, or raise a `CloudError`."""
        ...


Outcome = EncodedCrystal | CloudError


def encode_batch(
    encoder: Encoder,
    crystals: Iterable[Any],
    processes: int = 1,
    timeout: float | None = 60.0,
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
        An iterator over `EncodedCrystal` or the `CloudError` that says why there is none (never raised). An exception
        of `crystals` itself is raised after the rows before it. Leaving the iterator early ends the workers.

    Raises:
        CloudError: An argument that cannot work.
        WorkerStartError: While iterating: three worker processes in a row died before they were ready.
    """
    if processes < 1 or (chunk_size is not None and chunk_size < 1):
        raise CloudError("processes and chunk_size must be 1 or more.")
    if timeout is not None and not timeout > 0:
        raise CloudError(f"timeout must be a positive number of seconds or None, not {timeout}.")
    if processes == 1 and timeout is None:
        rows: Iterator[Outcome] = (_attempt(encoder, crystal) for crystal in crystals)
    elif multiprocessing.current_process().daemon:
        raise CloudError("A daemonic process cannot start workers; use processes=1, timeout=None here.")
    else:
        rows = _Pool(encoder, crystals, processes, timeout, chunk_size).rows()
    return _shown(rows, getattr(crystals, "__len__", lambda: None)()) if progress else rows


class _Bar(tqdm):  # type: ignore[type-arg]
    monitor_interval = 0  # no thread: a process with threads is not forked


def _shown(rows: Iterator[Outcome], total: int | None) -> Iterator[Outcome]:
    with _Bar(total=total, unit="crystal", desc="encoding") as bar:
        for row in rows:
            bar.update()
            yield row


# ---------------------------------------------------------------------------------------------- in the worker


def _attempt(encoder: Encoder, crystal: Any) -> Outcome:
    try:
        return encoder.describe(crystal)
    except CloudError as error:
        return error
    except (Exception, SystemExit) as error:  # third-party parsers raise almost anything
        reason = " ".join(str(error).split())[:300]
        return EncoderFailureError(f"{_name(crystal)}: unexpected {type(error).__name__}: {reason}")


def _name(crystal: Any, short: bool = False) -> str:
    if isinstance(crystal, str | PathLike):
        return " ".join(str(crystal)[:200].split())
    formula = None
    with contextlib.suppress(Exception):
        formula = None if short else crystal.formula
    return f"structure {formula}" if isinstance(formula, str) else type(crystal).__name__


def _work(connection: Connection, encoder: Encoder) -> None:
    """Answer chunks crystal by crystal until the other side goes away."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends its workers
    with contextlib.suppress(OSError):  # Linux: short of memory, end this process and not the parent
        Path("/proc/self/oom_score_adj").write_text("1000")
    try:
        connection.send_bytes(b"ready")
        while True:
            for payload in pickle.loads(connection.recv_bytes()):  # noqa: S301  (bytes from the parent)
                connection.send_bytes(_answer(encoder, payload))
    except (EOFError, OSError):
        return


def _answer(encoder: Encoder, payload: bytes) -> bytes:
    try:
        crystal = pickle.loads(payload)  # noqa: S301
    except Exception as error:
        outcome: Any = EncoderFailureError(f"the input cannot be unpickled in a worker: {error}")
    else:
        outcome = _attempt(encoder, crystal)
    try:
        answer = pickle.dumps(outcome, pickle.HIGHEST_PROTOCOL)
        if isinstance(outcome, CloudError):
            pickle.loads(answer)  # noqa: S301  (an error class may refuse to be rebuilt)
    except Exception as error:
        kind = type(outcome).__name__
        reason = f"{kind}: {outcome}" if isinstance(outcome, CloudError) else f"{kind} cannot be pickled: {error}"
        answer = pickle.dumps(EncoderFailureError(reason))
    return answer


# ---------------------------------------------------------------------------------------------- in the parent


@dataclass(slots=True)
class _Task:
    """One input on its way: its place in the order, its name for messages, and itself as bytes."""

    place: int
    name: str
    payload: bytes
    spared: bool = False  # a worker was lost while this was on its way to it, which may have been an accident


class _Worker:
    """A process, the parent's end of its connection, and the tasks that it has not answered yet."""

    def __init__(self, encoder: Encoder, context: Any) -> None:
        self.connection, theirs = context.Pipe(duplex=True)
        self.process: BaseProcess = context.Process(
            target=_work, args=(theirs, encoder), daemon=True, name="encode_batch"
        )
        with warnings.catch_warnings():  # Python 3.12 warns of any thread; see _context for those that matter
            warnings.simplefilter("ignore", DeprecationWarning)
            self.process.start()
        theirs.close()  # so that the end of the process ends the connection
        self.tasks: deque[_Task] = deque()
        self.ready = False
        self.since = time.monotonic()

    def end(self) -> None:
        self.process.kill()
        self.process.join(10.0)  # at once, unless the kernel holds it in a call


def _context() -> Any:
    """Fork where that is safe: no start-up time. A fresh process otherwise.

    A fork copies locks in the state in which other threads hold them, so there must be no other Python thread
    (tqdm's idle monitor holds none that a worker needs). Neither spglib nor numpy's BLAS minds a fork; torch's
    threads would, but workers do not compute with torch.
    """
    threads = [thread for thread in threading.enumerate() if not isinstance(thread, TMonitor)]
    if sys.platform == "linux" and len(threads) == 1:
        return multiprocessing.get_context("fork")
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload([__name__])  # the imports are paid once, not per worker
    return context


class _Pool:
    def __init__(
        self, encoder: Encoder, crystals: Iterable[Any], processes: int, timeout: float | None, chunk: int | None
    ) -> None:
        self.encoder, self.processes, self.timeout, self.chunk = encoder, processes, timeout, chunk
        self.source = enumerate(crystals)
        self.exhausted = False
        self.source_error: Exception | None = None
        self.context = _context()
        self.workers: list[_Worker] = []
        self.pending: deque[_Task] = deque()  # read from the source, not handed out
        self.done: dict[int, Outcome] = {}
        self.next_place = 0  # the row that the caller gets next
        self.failed_starts = 0
        self.seconds, self.answers = CHUNK_SECONDS, 1  # spent and given by all workers: the size of a chunk

    def rows(self) -> Iterator[Outcome]:
        try:
            while True:
                self.read()
                self.hand_out()
                self.read()  # while the workers are busy, so that the next chunk is at hand when one is not
                while self.next_place in self.done:
                    row = self.done.pop(self.next_place)
                    self.next_place += 1
                    yield row
                if not (self.pending or any(worker.tasks for worker in self.workers)):
                    if self.exhausted:
                        break
                    continue
                self.collect()
                self.look_after()
            if self.source_error is not None:
                raise self.source_error
        finally:
            for worker in self.workers:
                worker.process.kill()
            for worker in self.workers:
                worker.end()
                worker.connection.close()

    def chunk_now(self) -> int:
        return self.chunk or max(1, min(MAX_CHUNK, round(CHUNK_SECONDS * self.answers / self.seconds)))

    def read(self) -> None:
        """Pickle inputs until a chunk is at hand, or the source has been slow."""
        until = time.monotonic() + CHUNK_SECONDS
        while not self.exhausted and len(self.pending) < self.chunk_now() and len(self.done) < MAX_AHEAD:
            try:
                place, crystal = next(self.source)
            except StopIteration:
                self.exhausted = True
            except Exception as error:
                self.exhausted, self.source_error = True, error
            else:
                name = f"input {place} ({_name(crystal, short=True)})"
                try:
                    self.pending.append(_Task(place, name, pickle.dumps(crystal, pickle.HIGHEST_PROTOCOL)))
                except Exception as error:  # pickle raises what the object's own methods raise
                    self.done[place] = EncoderFailureError(f"{name} cannot be pickled for a worker: {error}")
            if time.monotonic() > until:
                return

    def hand_out(self) -> None:
        while len(self.workers) < min(self.processes, len(self.workers) + len(self.pending)):
            self.start_worker()
        for worker in list(self.workers):
            if not (worker.ready and not worker.tasks and self.pending):
                continue
            if self.pending[0].place - self.next_place > MAX_AHEAD:
                return
            worker.tasks.extend(self.pending.popleft() for _ in range(min(self.chunk_now(), len(self.pending))))
            worker.since = time.monotonic()
            try:
                worker.connection.send_bytes(pickle.dumps([task.payload for task in worker.tasks]))
            except OSError:  # it died idle, or of the size of the chunk
                first = worker.tasks[0]
                self.replace(worker, WorkerDiedError if first.spared else None)
                first.spared = True

    def start_worker(self) -> None:
        if self.failed_starts >= MAX_FAILED_STARTS:
            raise WorkerStartError(
                f"{self.failed_starts} worker processes in a row died before they were ready. In a script, call "
                "encode_batch under `if __name__ == '__main__':`; or use processes=1, timeout=None."
            )
        try:
            self.workers.append(_Worker(self.encoder, self.context))
        except OSError as error:
            raise WorkerStartError(f"No worker process can be started: {error}.") from error

    def collect(self) -> None:
        """Wait for answers, but not beyond the next deadline; take all that are there."""
        if all(worker.ready for worker in self.workers):  # let answers gather, as waking up costs 0.1 ms
            fewest = min((len(worker.tasks) for worker in self.workers if worker.tasks), default=0)
            time.sleep(min(GATHER_SECONDS, (fewest - 1) / 2 * self.seconds / self.answers) if fewest > 1 else 0.0)
        now = time.monotonic()
        limits = [worker.since + self.limit(worker) - now for worker in self.workers if self.limit(worker)]
        answering = wait([worker.connection for worker in self.workers], max(0.0, min([TICK_SECONDS, *limits])))
        for worker in self.workers:
            if worker.connection in answering:
                self.drain(worker)

    def limit(self, worker: _Worker) -> float:
        if not worker.ready:
            return START_SECONDS
        return (self.timeout or 0.0) if worker.tasks else 0.0

    def drain(self, worker: _Worker) -> None:
        try:
            while worker.connection.poll():
                self.take(worker, worker.connection.recv_bytes())
        except (EOFError, OSError):
            worker.end()  # nothing more will come; look_after() sees that it is dead

    def take(self, worker: _Worker, message: bytes) -> None:
        now = time.monotonic()
        if not worker.ready:
            worker.ready = True
            self.failed_starts = 0
        else:
            task = worker.tasks.popleft()
            try:
                self.done[task.place] = pickle.loads(message)  # noqa: S301  (bytes from the worker)
            except Exception as error:
                self.done[task.place] = EncoderFailureError(f"{task.name}: its row cannot be unpickled: {error}")
            self.seconds += min(now - worker.since, CHUNK_SECONDS)  # one slow crystal says nothing of the next
            self.answers += 1
        worker.since = now

    def look_after(self) -> None:
        """Replace workers that died or are over the time limit."""
        for worker in list(self.workers):
            limit = self.limit(worker)
            if not worker.process.is_alive():
                self.replace(worker, WorkerDiedError)
            elif limit and time.monotonic() - worker.since > limit and not worker.connection.poll():
                self.replace(worker, EncodingTimeoutError)

    def replace(self, worker: _Worker, reason: type[CrystalError] | None) -> None:
        """End a worker; its first open task gets the error, the others go back to be handed out again."""
        suspect = worker.tasks[0] if worker.tasks else None
        worker.end()
        self.drain(worker)
        worker.connection.close()
        self.workers.remove(worker)
        self.failed_starts += not worker.ready
        # a limit concerns one crystal: answered after all, it is not to blame, nor is the next one
        blamed = worker.tasks and (reason is WorkerDiedError or worker.tasks[0] is suspect)
        if reason is not None and blamed:
            task = worker.tasks.popleft()
            self.done[task.place] = reason(f"{task.name}: {self.explain(worker, reason)}")
        self.pending = deque(sorted([*worker.tasks, *self.pending], key=lambda task: task.place))

    def explain(self, worker: _Worker, reason: type[CrystalError]) -> str:
        if reason is EncodingTimeoutError:
            return f"not encoded within the limit of {self.timeout:g} s (--timeout)."
        code = worker.process.exitcode or 0
        how = str(signal.strsignal(-code) or f"signal {-code}") if code < 0 else f"exit status {code}"
        return (
            f"the worker process died ({how}) while encoding it; a crash of a library, or the system was out of memory."
        )
