"""One worker process of `encode_batch`: what runs in it, and the parent's hold on it."""

import contextlib
import gc
import multiprocessing
import os
import pickle
import select
import signal
import struct
import sys
import threading
import time
import warnings
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from os import PathLike
from pathlib import Path
from typing import Any, Protocol

from tqdm import TMonitor

from cloud_hf.errors import CloudError, EncoderFailureError, unforeseen

__all__ = ["Encoder", "Several", "Task", "Worker", "attempt", "name_of", "start_method"]


_IS_STREAM = os.name == "posix"
"""Elsewhere a connection is no file, and keeps messages apart by itself."""

_SIZE = struct.Struct("!Q")
_AT_ONCE = 2**18
"""Bytes; all answers that lie in a connection are read in one call, which takes a third of the time."""


class Encoder(Protocol):
    """What turns one crystal into a row: a `ScopeEncoder`, or anything picklable with its `describe`."""

    def describe(self, crystal: Any) -> Any:
        """Return the row of a crystal, `Several` for an input that holds more than one, or raise a `CloudError`."""
        ...


@dataclass(frozen=True, slots=True)
class Several:
    """What an encoder answers to a file of several crystals: inputs that take its place, each with a limit of its own.

    Attributes:
        inputs: In their order, at least one; an encoder may answer `Several` to any of them again.
    """

    inputs: Sequence[Any]

    def __post_init__(self) -> None:
        """Refuse to lose an input."""
        if not self.inputs:
            raise EncoderFailureError("an input must hold at least one crystal.")


def attempt(encoder: Encoder, crystal: Any) -> Any:
    """Return the row of a crystal, or the `CloudError` that says why there is none."""
    try:
        return encoder.describe(crystal)
    except CloudError as error:
        return error
    except (Exception, SystemExit) as error:  # third-party parsers raise almost anything
        return unforeseen(error, name_of(crystal))


def name_of(crystal: Any, short: bool = False) -> str:
    """Return what an error message calls an input: its `source`, path, formula (unless `short`) or type."""
    crystal = getattr(crystal, "source", crystal)
    if isinstance(crystal, str | PathLike):
        return " ".join(str(crystal)[:200].split())
    if short:
        return type(crystal).__name__
    formula = None
    with contextlib.suppress(Exception):
        formula = crystal.formula
    return f"structure {formula}" if isinstance(formula, str) else type(crystal).__name__


def _work(connection: Connection, other_end: Connection, encoder: Encoder) -> None:
    """Answer chunks crystal by crystal until the other side goes away."""
    gc.freeze()  # what a fork inherits is no garbage, and looking at it would copy it
    other_end.close()  # a fork has the parent's end too, and would wait for itself when the parent was killed
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends its workers
    with contextlib.suppress(OSError):  # Linux: short of memory, end this process and not the parent
        Path("/proc/self/oom_score_adj").write_text("1000")
    try:
        _send(connection, b"ready")
        while True:
            for payload in pickle.loads(connection.recv_bytes()):  # noqa: S301  (bytes from the parent)
                _send(connection, _answer(encoder, payload))
    except (EOFError, OSError):
        return


def _send(connection: Connection, message: bytes) -> None:
    if not _IS_STREAM:
        connection.send_bytes(message)
        return
    rest = memoryview(_SIZE.pack(len(message)) + message)
    while rest:
        rest = rest[os.write(connection.fileno(), rest) :]


def _answer(encoder: Encoder, payload: bytes) -> bytes:
    try:
        crystal = pickle.loads(payload)  # noqa: S301
    except Exception as error:
        outcome: Any = EncoderFailureError(f"the input cannot be unpickled in a worker: {error}")
    else:
        outcome = attempt(encoder, crystal)
    try:
        answer = pickle.dumps(outcome, pickle.HIGHEST_PROTOCOL)
        if isinstance(outcome, CloudError):
            pickle.loads(answer)  # noqa: S301  (an error class may refuse to be rebuilt)
    except Exception as error:
        kind = type(outcome).__name__
        reason = f"{kind}: {outcome}" if isinstance(outcome, CloudError) else f"{kind} cannot be pickled: {error}"
        answer = pickle.dumps(EncoderFailureError(reason))
    return answer


@dataclass(slots=True)
class Task:
    """One input that waits for a worker or is in one.

    Attributes:
        place: Where it stands in the order. An input that holds several is replaced by them: instead of (3,) theirs are
            (3, 0), (3, 1), ...
        what: What messages call it.
        payload: The input, pickled.
        crystal: The input itself, if it is to come back.
    """

    place: tuple[int, ...]
    what: str
    payload: bytes
    crystal: Any = None
    spared: bool = False  # a worker was lost while this was on its way to it, which may have been an accident

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"input {self.place[0]} ({self.what})"


class Worker:
    """A process, the parent's end of its connection, and the tasks that it has not answered yet."""

    def __init__(self, encoder: Encoder, context: Any) -> None:
        self.connection, theirs = context.Pipe(duplex=True)
        self.process: BaseProcess = context.Process(
            target=_work, args=(theirs, self.connection, encoder), daemon=True, name="encode_batch"
        )
        with warnings.catch_warnings():  # Python 3.12 warns of any thread; see _context for those that matter
            warnings.simplefilter("ignore", DeprecationWarning)
            self.process.start()
        theirs.close()  # so that the end of the process ends the connection
        self.tasks: deque[Task] = deque()
        self.ready = False
        self.since = time.monotonic()
        self._partial = bytearray()  # of an answer whose end has not come yet
        self._poll: Any = None
        if _IS_STREAM:
            self._poll = select.poll()  # a tenth of the time that the connection's own poll() takes
            self._poll.register(self.connection, select.POLLIN)

    def has_answer(self) -> bool:
        """Whether something, or the end of the connection, can be read now."""
        return bool(self._poll.poll(0)) if _IS_STREAM else self.connection.poll()

    def answers(self) -> list[bytes]:
        """Return the answers that have come whole.

        Raises:
            EOFError: The connection has ended.
        """
        if not _IS_STREAM:
            return [self.connection.recv_bytes()]
        data = os.read(self.connection.fileno(), _AT_ONCE)
        if not data:
            raise EOFError
        self._partial += data
        complete, start = [], 0
        while start + _SIZE.size <= len(self._partial):
            begin = start + _SIZE.size
            stop = begin + _SIZE.unpack_from(self._partial, start)[0]
            if stop > len(self._partial):
                break
            complete.append(bytes(self._partial[begin:stop]))
            start = stop
        del self._partial[:start]
        return complete

    def end(self) -> None:
        """Kill the process; nothing that it has sent is lost."""
        self.process.kill()
        self.process.join(10.0)  # at once, unless the kernel holds it in a call


def start_method(preload: Sequence[str] = ()) -> Any:
    """Return the `multiprocessing` context: fork where that is safe, with no start-up time, else a fresh process.

    A fork copies locks in the state in which other threads hold them, so there must be no other Python thread
    (tqdm's idle monitor and fsspec's idle loop hold none that a worker needs). Neither spglib nor numpy's BLAS minds a
    fork; torch's threads would, but workers do not compute with torch.

    Args:
        preload: Modules that workers need, imported once where a server forks them.
    """
    threads = [
        thread
        for thread in threading.enumerate()
        if not isinstance(thread, TMonitor) and not thread.name.startswith("fsspecIO")
    ]
    if sys.platform == "linux" and len(threads) == 1:
        return multiprocessing.get_context("fork")
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload([__name__, *preload])  # the imports are paid once, not per worker
    return context
