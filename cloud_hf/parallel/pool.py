"""The worker processes behind `encode_batch`: handing out, collecting, and replacing what dies or hangs.

Why not a library: pebble's pool gives up a whole chunk when one of its tasks dies or runs out of time, and has an
open race that leaves a task without an answer (noxdafox/pebble issues 132 and 153); joblib and concurrent.futures
lose every pending task with one dead worker. So each worker here has a connection of its own (no shared queue, whose
lock a killed worker would keep) and answers crystal by crystal, which tells what was done and what was being done.
"""

import pickle
import signal
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice
from multiprocessing.connection import wait
from typing import Any

from cloud_hf.errors import (
    CrystalError,
    EncoderFailureError,
    EncodingTimeoutError,
    WorkerDiedError,
    WorkerStartError,
)
from cloud_hf.parallel.worker import Encoder, Several, Task, Worker, name_of, start_method

__all__ = ["Pool"]

CHUNK_SECONDS = 0.05
"""s; a worker is handed crystals for about this long at a time, so that handing over costs little."""

GATHER_SECONDS = 0.05
"""s; how long answers may lie while every worker has more to do."""

ROOM = 65_536 if sys.platform == "linux" else 0
"""Bytes that a connection holds for a busy worker without making this process wait (Linux: 200 kB); a worker that has
more ahead of it is handed the next crystals when it has answered all."""

MAX_CHUNK = 64
MAX_AHEAD = 4096
"""Rows that may wait for a slow crystal before them; beyond that the workers wait too, and memory stays flat."""

MAX_FAILED_STARTS = 3
START_SECONDS = 120.0
"""s; importing the package takes ten on a busy machine."""

TICK_SECONDS = 1.0
"""s; how often workers are looked at, should the end of one go unnoticed."""


class Pool:
    """Workers that encode crystals; they stay for the next ones, with what they have learned.

    Args:
        encoder: As for `encode_batch`, and so are the others.
        processes: Most workers at a time.
        timeout: s, or None.
        chunk: Crystals handed out at a time, or None.
    """

    def __init__(self, encoder: Encoder, processes: int, timeout: float | None, chunk: int | None = None) -> None:
        self.encoder, self.processes, self.timeout, self.chunk = encoder, processes, timeout, chunk
        self.context = start_method([type(encoder).__module__])
        self.workers: list[Worker] = []
        self.failed_starts = 0
        self.seconds, self.answers = CHUNK_SECONDS, 1  # spent and given by all workers: the size of a chunk
        self._begin((), False)

    def _begin(self, crystals: Iterable[Any], keep: bool) -> None:
        self.source, self.keep = enumerate(crystals), keep
        self.exhausted = False
        self.source_error: Exception | None = None
        self.pending: deque[Task] = deque()  # read from the source, not handed out; by place
        self.done: dict[tuple[int, ...], tuple[Any, Any]] = {}
        self.opened: dict[tuple[int, ...], int] = {}  # inputs that hold several: how many
        self.next_place: tuple[int, ...] = (0,)  # the row that the caller gets next
        self.numbers: list[int] = []  # of the inputs in each input that the next row is in

    def rows(self, crystals: Iterable[Any]) -> Iterator[Any]:
        """Yield one row per crystal in their order; see `encode_batch`. Leaving it early ends the workers."""
        for _, row in self._run(crystals, keep=False):
            yield row

    def pairs(self, crystals: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
        """Yield each crystal with its row; one that holds several stands there as the encoder's `Several` names it."""
        return self._run(crystals, keep=True)

    def _run(self, crystals: Iterable[Any], keep: bool) -> Iterator[tuple[Any, Any]]:
        self._begin(crystals, keep)
        try:
            while True:
                self._read()
                self._hand_out()
                self._read()  # while the workers are busy, so that the next chunk is at hand when one is not
                while (pair := self._next_pair()) is not None:
                    yield pair
                if not (self.pending or any(worker.tasks for worker in self.workers)):
                    if self.exhausted:
                        break
                    continue
                self._collect()
                self._look_after()
        except BaseException:
            self.close()
            raise
        if self.source_error is not None:
            raise self.source_error

    def _next_pair(self) -> tuple[Any, Any] | None:
        """Take the row that comes next, if it is there."""
        while self.next_place in self.opened:
            self.numbers.append(self.opened.pop(self.next_place))
            self.next_place = (*self.next_place, 0)
        pair = self.done.pop(self.next_place, None)
        if pair is not None:
            *above, last = self.next_place
            while above and last + 1 == self.numbers[-1]:
                self.numbers.pop()
                *above, last = above
            self.next_place = (*above, last + 1)
        return pair

    def close(self) -> None:
        """End the workers."""
        for worker in self.workers:
            worker.process.kill()
        for worker in self.workers:
            worker.end()
            worker.connection.close()
        self.workers = []

    def _chunk_now(self) -> int:
        return self.chunk or max(1, min(MAX_CHUNK, round(CHUNK_SECONDS * self.answers / self.seconds)))

    def _read(self) -> None:
        """Pickle inputs until a chunk is at hand, or the source has been slow."""
        until, chunk = time.monotonic() + CHUNK_SECONDS, self._chunk_now()
        while not self.exhausted and len(self.pending) < chunk and len(self.done) < MAX_AHEAD:
            try:
                place, crystal = next(self.source)
            except StopIteration:
                self.exhausted = True
            except Exception as error:
                self.exhausted, self.source_error = True, error
            else:
                self.pending.extend(self._packed((place,), crystal))
            if time.monotonic() > until:
                return

    def _packed(self, place: tuple[int, ...], crystal: Any) -> Iterator[Task]:
        """Yield the task of an input, or answer it where it cannot travel."""
        task = Task(place, name_of(crystal, short=True), b"", crystal if self.keep else None)
        try:
            task.payload = pickle.dumps(crystal, pickle.HIGHEST_PROTOCOL)
        except Exception as error:  # pickle raises what the object's own methods raise
            self._answer(task, EncoderFailureError(f"cannot be pickled for a worker: {error}", source=task.name))
        else:
            yield task

    def _answer(self, task: Task, row: Any) -> None:
        """Note the row of an input, or hand out what the input holds."""
        if not isinstance(row, Several):
            self.done[task.place] = task.crystal, row
            return
        self.opened[task.place] = len(row.inputs)
        inside = [new for i, crystal in enumerate(row.inputs) for new in self._packed((*task.place, i), crystal)]
        self._hand_back(inside)

    def _hand_back(self, tasks: Iterable[Task]) -> None:
        self.pending = deque(sorted([*tasks, *self.pending], key=lambda task: task.place))

    def _hand_out(self) -> None:
        while len(self.workers) < min(self.processes, len(self.workers) + len(self.pending)):
            self._start_worker()
        for worker in list(self.workers):
            if not (worker.ready and self.pending):
                continue
            first = self.pending[0].place
            if first[0] - self.next_place[0] > MAX_AHEAD or (len(self.done) > MAX_AHEAD and first > self.next_place):
                return
            number = min(self._chunk_now(), len(self.pending))
            if worker.tasks and not self._has_room(worker, number):
                continue
            tasks = [self.pending.popleft() for _ in range(number)]
            is_idle = not worker.tasks
            try:
                worker.connection.send_bytes(pickle.dumps([task.payload for task in tasks]))
            except OSError:
                if not is_idle:  # look_after() sees that it is dead, and of what
                    self.pending.extendleft(reversed(tasks))
                    continue
                worker.tasks.extend(tasks)  # it died idle, or of the size of the chunk
                self._replace(worker, WorkerDiedError if tasks[0].spared else None)
                tasks[0].spared = True
            else:
                worker.tasks.extend(tasks)
                worker.since = time.monotonic() if is_idle else worker.since

    def _has_room(self, worker: Worker, number: int) -> bool:
        """Whether a busy worker is to get more crystals now, so that it need not wait for them."""
        if 2 * len(worker.tasks) >= self._chunk_now():
            return False
        return sum(len(task.payload) for task in (*worker.tasks, *islice(self.pending, number))) < ROOM

    def _start_worker(self) -> None:
        if self.failed_starts >= MAX_FAILED_STARTS:
            raise WorkerStartError(
                f"{self.failed_starts} worker processes in a row died before they were ready. In a script, call "
                "encode_batch under `if __name__ == '__main__':`; or use processes=1, timeout=None."
            )
        try:
            self.workers.append(Worker(self.encoder, self.context))
        except OSError as error:
            raise WorkerStartError(f"No worker process can be started: {error}.") from error

    def _collect(self) -> None:
        """Wait for answers, but not beyond the next deadline; take all that are there."""
        if all(worker.ready for worker in self.workers):  # let answers gather, as waking up costs 0.1 ms
            fewest = min((len(worker.tasks) for worker in self.workers if worker.tasks), default=0)
            time.sleep(min(GATHER_SECONDS, (fewest - 1) / 2 * self.seconds / self.answers) if fewest > 1 else 0.0)
        now = time.monotonic()
        limits = [worker.since + self._limit(worker) - now for worker in self.workers if self._limit(worker)]
        answering = wait([worker.connection for worker in self.workers], max(0.0, min([TICK_SECONDS, *limits])))
        for worker in self.workers:
            if worker.connection in answering:
                self._drain(worker)

    def _limit(self, worker: Worker) -> float:
        if not worker.ready:
            return START_SECONDS
        return (self.timeout or 0.0) if worker.tasks else 0.0

    def _drain(self, worker: Worker) -> None:
        try:
            while worker.has_answer():
                for answer in worker.answers():
                    self._take(worker, answer)
        except (EOFError, OSError):
            worker.end()  # nothing more will come; look_after() sees that it is dead

    def _take(self, worker: Worker, message: bytes) -> None:
        now = time.monotonic()
        if not worker.ready:
            worker.ready = True
            self.failed_starts = 0
        else:
            task = worker.tasks.popleft()
            try:
                row = pickle.loads(message)  # noqa: S301  (bytes from the worker)
            except Exception as error:
                row = EncoderFailureError(f"its row cannot be unpickled: {error}", source=task.name)
            self._answer(task, row)
            self.seconds += min(now - worker.since, CHUNK_SECONDS)  # one slow crystal says nothing of the next
            self.answers += 1
        worker.since = now

    def _look_after(self) -> None:
        """Replace workers that died or are over the time limit."""
        for worker in list(self.workers):
            limit = self._limit(worker)
            if not worker.process.is_alive():
                self._replace(worker, WorkerDiedError)
            elif limit and time.monotonic() - worker.since > limit and not worker.has_answer():
                self._replace(worker, EncodingTimeoutError)

    def _replace(self, worker: Worker, reason: type[CrystalError] | None) -> None:
        """End a worker; its first open task gets the error, the others go back to be handed out again."""
        suspect = worker.tasks[0] if worker.tasks else None
        worker.end()
        self._drain(worker)
        worker.connection.close()
        self.workers.remove(worker)
        self.failed_starts += not worker.ready
        # a limit concerns one crystal: answered after all, it is not to blame, nor is the next one
        blamed = worker.tasks and (reason is WorkerDiedError or worker.tasks[0] is suspect)
        if reason is not None and blamed:
            task = worker.tasks.popleft()
            flag = "timeout" if reason is EncodingTimeoutError else None
            self._answer(task, reason(self._explain(worker, reason), source=task.name, flag=flag))
        self._hand_back(worker.tasks)

    def _explain(self, worker: Worker, reason: type[CrystalError]) -> str:
        if reason is EncodingTimeoutError:
            return (
                f"not encoded within the time limit of {self.timeout:g} s; raise `timeout`, or leave the crystal out."
            )
        code = worker.process.exitcode or 0
        how = str(signal.strsignal(-code) or f"signal {-code}") if code < 0 else f"exit status {code}"
        return (
            f"the worker process died ({how}) while encoding it; a crash of a library, or the system was out of memory."
        )
