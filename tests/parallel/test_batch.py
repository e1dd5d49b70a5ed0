"""`encode_batch`: one row per input in the order of the inputs, whatever happens to the workers."""

from __future__ import annotations

import faulthandler
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pymatgen.core import Lattice, Structure

from cloud_hf.errors import (
    CloudError,
    CrystalError,
    CrystalReadError,
    EncoderFailureError,
    EncodingTimeoutError,
    WorkerDiedError,
    WorkerStartError,
)
from cloud_hf.parallel import pool, worker
from cloud_hf.parallel.batch import encode_batch, encode_pairs
from cloud_hf.parallel.worker import Several
from cloud_hf.scope import EncodedCrystal, ScopeEncoder
from waiting import Hang

#: Ways to run: (processes, timeout, chunk size); the first one needs no worker.
WAYS = [(1, None, None), (1, 60.0, None), (2, 60.0, None), (3, None, 5), (2, 60.0, 1)]


class Stub:
    """Encoder that does what its input says, and writes down in a folder what it was asked to encode."""

    def __init__(self, folder: Path | None = None, hang: Hang | None = None) -> None:
        self.folder, self.hang = folder, hang

    def describe(self, crystal: Any) -> EncodedCrystal:
        what = str(crystal).partition(":")[0]
        if self.folder is not None:
            with (self.folder / str(os.getpid())).open("a") as log:
                log.write(f"{crystal}\n")
        if what == "exit":
            os._exit(3)
        if what == "leave":
            sys.exit(4)
        if what == "segfault":
            faulthandler.disable()  # pytest's would fill the report with this one
            os.kill(os.getpid(), signal.SIGSEGV)
        if what == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if what in {"hang", "deaf", "stop"} and self.hang is not None:
            self.hang.begin()
        if what == "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        if what == "hang":
            time.sleep(10_000)
        if what == "deaf":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            time.sleep(10_000)
        if what == "refuse":
            raise CrystalReadError(f"{crystal}: refused")
        if what == "demanding":
            raise DemandingError("first", "second")
        if what == "fail":
            raise ZeroDivisionError("a bug")
        if what == "unpicklable row":
            return lambda: None  # type: ignore[return-value]
        return row(crystal)


class DemandingError(CrystalError):
    """An error that pickle cannot rebuild, because its constructor wants more than the message."""

    def __init__(self, what: str, more: str) -> None:
        super().__init__(f"{what} and {more}")


def row(crystal: Any) -> EncodedCrystal:
    return EncodedCrystal(scope=str(crystal), formula="X", space_group=1, space_group_symbol="P1", n_atoms=1.0)


class Unpicklable:
    def __reduce__(self) -> Any:
        raise TypeError("no")


class Poisoned:
    """Pickles well, and fails where it is unpickled."""

    def __reduce__(self) -> Any:
        return _raise, ()


class Deadly:
    """Pickles well, and ends the process that unpickles it."""

    def __reduce__(self) -> Any:
        return os._exit, (7,)


def _raise() -> None:
    raise RuntimeError("poison")


def kinds(rows: list[Any]) -> list[str]:
    return ["ok" if isinstance(outcome, EncodedCrystal) else type(outcome).__name__ for outcome in rows]


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("n", [0, 1, 2, 7, 300])
def test_one_row_per_input_in_order(n: int, way: Any) -> None:
    assert list(encode_batch(Stub(), range(n), *way)) == [row(i) for i in range(n)]


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_errors_are_rows_not_raised(way: Any) -> None:
    crystals = ["a", "refuse:1", "b", "fail:2", "demanding", "leave", "c"]
    rows = list(encode_batch(Stub(), crystals, *way))
    assert [rows[i] for i in (0, 2, 6)] == [row("a"), row("b"), row("c")]
    assert type(rows[1]) is CrystalReadError
    assert str(rows[1]) == "refuse:1: refused"
    assert isinstance(rows[3], EncoderFailureError)
    assert "ZeroDivisionError: a bug" in str(rows[3])
    assert "first and second" in str(rows[4])
    assert isinstance(rows[4], CrystalError)
    assert "SystemExit" in str(rows[5])


@pytest.mark.parametrize("way", WAYS[1:], ids=str)
@pytest.mark.parametrize("death", ["exit", "segfault", "kill"])
def test_a_dead_worker_costs_one_crystal(death: str, way: Any, tmp_path: Path) -> None:
    """The crystal that was being encoded gets the error; every other one is encoded, and only once."""
    crystals = [f"{death}:{i}" if i in (0, 13, 14, 39) else f"ok:{i}" for i in range(40)]
    rows = list(encode_batch(Stub(tmp_path), crystals, *way))
    for crystal, outcome in zip(crystals, rows, strict=True):
        if crystal.startswith("ok"):
            assert outcome == row(crystal)
        else:
            assert isinstance(outcome, WorkerDiedError)
            assert crystal in str(outcome)
    encoded = [line for log in tmp_path.iterdir() for line in log.read_text().split()]
    assert sorted(encoded) == sorted(crystals)


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("how", ["hang", "deaf", "stop"])
def test_a_hanging_crystal_is_stopped_at_the_limit(how: str, processes: int, hang: Hang, tmp_path: Path) -> None:
    crystals = ["a", f"{how}:1", "b", "c", f"{how}:4", "d"]
    rows = list(encode_batch(Stub(tmp_path, hang), crystals, processes, timeout=600.0, chunk_size=3))
    assert kinds(rows) == ["ok", "EncodingTimeoutError", "ok", "ok", "EncodingTimeoutError", "ok"]
    assert all(name in str(rows[i]) for i, name in ((1, f"{how}:1"), (4, f"{how}:4")))
    assert "600 s" in str(rows[1])
    encoded = [line for log in tmp_path.iterdir() for line in log.read_text().split()]
    assert sorted(encoded) == sorted(crystals)


def test_the_limit_is_in_seconds() -> None:
    (outcome,) = encode_batch(Stub(), ["hang"], timeout=0.1)
    assert isinstance(outcome, EncodingTimeoutError)
    assert "0.1 s" in str(outcome)


def test_every_crystal_may_kill() -> None:
    assert kinds(list(encode_batch(Stub(), ["exit"] * 12, 2))) == ["WorkerDiedError"] * 12


@pytest.mark.parametrize("way", WAYS[1:], ids=str)
def test_what_cannot_travel_is_a_row(way: Any) -> None:
    crystals = ["a", Unpicklable(), "b", Poisoned(), Deadly(), "unpicklable row", "c"]
    rows = list(encode_batch(Stub(), crystals, *way))
    failed = "EncoderFailureError"
    assert kinds(rows) == ["ok", failed, "ok", failed, "WorkerDiedError", failed, "ok"]


def test_large_inputs_and_rows_travel() -> None:
    """Larger than any pipe's buffer, both ways."""
    crystals = [letter * 3_000_000 for letter in "abcd"]
    assert [outcome.scope for outcome in encode_batch(Stub(), crystals, 2, chunk_size=2)] == crystals


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_generator_is_read_as_the_work_proceeds(way: Any) -> None:
    """An endless one works, and what is read ahead is bounded."""
    read = 0

    def endless() -> Iterator[int]:
        nonlocal read
        while True:
            yield read
            read += 1

    rows = encode_batch(Stub(), endless(), *way)
    assert [next(rows) for _ in range(50)] == [row(i) for i in range(50)]
    assert read <= 50 + 8 * pool.MAX_CHUNK
    rows.close()  # type: ignore[attr-defined]


def test_a_slow_crystal_does_not_let_memory_grow(hang: Hang, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the first crystal holds up the rows, the others go ahead up to the bound only."""
    monkeypatch.setattr(pool, "MAX_AHEAD", 20)
    read: list[int] = []
    hang.after_looks = 300
    crystals = (read.append(i) or ("hang" if i == 0 else i) for i in range(500))  # type: ignore[func-returns-value]
    rows = encode_batch(Stub(hang=hang), crystals, 2, timeout=600.0, chunk_size=4)
    assert isinstance(next(rows), EncodingTimeoutError)
    assert 20 < len(read) <= 60
    assert list(rows) == [row(i) for i in range(1, 500)]


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_an_error_of_the_source_comes_after_the_rows_before_it(way: Any) -> None:
    def source() -> Iterator[int]:
        yield from range(5)
        raise KeyError("source")

    rows = encode_batch(Stub(), source(), *way)
    assert [next(rows) for _ in range(5)] == [row(i) for i in range(5)]
    with pytest.raises(KeyError, match="source"):
        next(rows)


def test_a_slow_reader_of_the_rows_times_nothing_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit is on the encoding: answers that wait for the caller count as given."""
    workers = pool.Pool(Stub(), processes=2, timeout=60.0)
    rows = workers.rows(range(30))
    first = next(rows)
    for one in workers.workers:
        if one.tasks or not one.ready:
            assert one.connection.poll(600)
    clock = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: clock() + 1000.0)
    assert [first, *rows] == [row(i) for i in range(30)]
    workers.close()


def test_leaving_early_ends_the_workers(tmp_path: Path) -> None:
    rows = encode_batch(Stub(tmp_path), ["a", *["hang"] * 5], 2)
    next(rows)
    rows.close()  # type: ignore[attr-defined]
    for log in tmp_path.iterdir():
        with pytest.raises(ProcessLookupError):
            os.kill(int(log.name), 0)


def test_workers_stay_for_the_next_crystals(tmp_path: Path) -> None:
    """One that has died in the meantime is replaced, and costs no crystal."""
    workers = pool.Pool(Stub(tmp_path), processes=1, timeout=60.0)
    try:
        assert list(workers.rows(range(100))) == [row(i) for i in range(100)]
        assert kinds(list(workers.rows(["a", "refuse:1", "b"]))) == ["ok", "CrystalReadError", "ok"]
        assert list(workers.rows([])) == []
        (log,) = tmp_path.iterdir()
        os.kill(int(log.name), signal.SIGKILL)
        workers.workers[0].process.join()
        assert list(workers.rows(range(50))) == [row(i) for i in range(50)]
        assert len(list(tmp_path.iterdir())) == 2
    finally:
        workers.close()
    assert workers.workers == []


def test_a_worker_that_was_handed_more_than_it_does_costs_one_crystal(hang: Hang, tmp_path: Path) -> None:
    """Crystals that wait in the connection of a busy worker go to another one."""
    crystals = [f"{'kill' if i % 97 == 60 else 'stop' if i == 300 else 'ok'}:{i}" for i in range(1000)]
    rows = list(encode_batch(Stub(tmp_path, hang), crystals, 2, timeout=600.0))
    for crystal, outcome in zip(crystals, rows, strict=True):
        expected = {"ok": EncodedCrystal, "kill": WorkerDiedError, "stop": EncodingTimeoutError}
        assert type(outcome) is expected[crystal.partition(":")[0]], crystal
    encoded = [line for log in tmp_path.iterdir() for line in log.read_text().split()]
    assert sorted(encoded) == sorted(crystals)


class Folders:
    """Encoder of text: `a+b` holds `a` and `b`, and so on; the rest is encoded as `Stub` does."""

    def __init__(self, hang: Hang | None = None) -> None:
        self.stub = Stub(hang=hang)

    def describe(self, crystal: Any) -> Any:
        if crystal == "":
            return Several([])
        for mark in "+*":
            if isinstance(crystal, str) and mark in crystal:
                return Several([part or Unpicklable() for part in crystal.split(mark)])
        return self.stub.describe(crystal)


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_an_input_that_holds_several_is_replaced_by_them(way: Any) -> None:
    """Whatever the depth, in the order of the inputs, with what each row belongs to."""
    crystals = ["a", "b+c*d*e+f", "g", "h*i", "j+k", *map(str, range(100)), "l+m*n"]
    expected = [part for crystal in crystals for part in crystal.replace("*", "+").split("+")]
    assert list(encode_batch(Folders(), crystals, *way)) == [row(part) for part in expected]
    assert list(encode_pairs(Folders(), crystals, *way[:2])) == [(part, row(part)) for part in expected]


@pytest.mark.parametrize("processes", [1, 2])
def test_each_of_several_has_a_limit_and_a_process_to_crash_in(processes: int, hang: Hang) -> None:
    crystals = ["a+hang:1+b*exit:2*c+d", "refuse:3+e", "f++g", ""]
    pairs = list(encode_pairs(Folders(hang), crystals, processes, timeout=600.0))
    ok, named = "ok", [crystal for crystal, _ in pairs]
    assert named == ["a", "hang:1", "b", "exit:2", "c", "d", "refuse:3", "e", "f++g", ""]
    outcomes = [outcome for _, outcome in pairs]
    assert kinds(outcomes) == [
        ok, "EncodingTimeoutError", ok, "WorkerDiedError", ok, ok, "CrystalReadError", ok, *["EncoderFailureError"] * 2,
    ]  # fmt: skip
    assert "hang:1" in outcomes[1].source
    assert outcomes[1].flag == "timeout"
    assert "600 s; raise `timeout`" in str(outcomes[1])


def test_many_of_many_behind_a_slow_one_do_not_let_memory_grow(hang: Hang, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "MAX_AHEAD", 20)
    hang.after_looks = 300
    workers = pool.Pool(Folders(hang), 2, timeout=600.0, chunk=4)
    most = 0

    def watched() -> Iterator[str]:
        nonlocal most
        for number in range(30):
            most = max(most, len(workers.done))
            yield "hang" if number == 0 else "+".join(f"{number}.{part}" for part in range(50))

    try:
        rows = list(workers.rows(watched()))
    finally:
        workers.close()
    assert isinstance(rows[0], EncodingTimeoutError)
    assert rows[1:] == [row(f"{number}.{part}") for number in range(1, 30) for part in range(50)]
    assert most <= 60


def test_beside_other_threads_fresh_processes_do_the_same(hang: Hang) -> None:
    """A process with threads is not forked, as a lock may be held by one of them."""
    over = threading.Event()
    thread = threading.Thread(target=over.wait)
    thread.start()
    try:
        assert worker.start_method().get_start_method() != "fork"
        crystals = ["a", "exit", "refuse:1", "hang", "b"]
        rows = list(encode_batch(Stub(hang=hang), crystals, 2, timeout=600.0, chunk_size=1))
    finally:
        over.set()
        thread.join()
    expected = ["ok", "WorkerDiedError", "CrystalReadError", "EncodingTimeoutError", "ok"]
    assert kinds(rows) == expected


def test_workers_that_never_start_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "_work", _die)
    with pytest.raises(WorkerStartError, match="__main__"):
        list(encode_batch(Stub(), range(5), 2))


def _die(*_: Any) -> None:
    os._exit(1)


@pytest.mark.parametrize(
    "arguments", [{"processes": 0}, {"chunk_size": 0}, {"timeout": 0.0}, {"timeout": float("nan")}], ids=str
)
def test_arguments_that_cannot_work_are_refused_at_once(arguments: dict[str, Any]) -> None:
    with pytest.raises(CloudError):
        encode_batch(Stub(), [], **arguments)


def test_progress_is_shown_on_the_terminal_only(capfd: pytest.CaptureFixture[str]) -> None:
    assert list(encode_batch(Stub(), range(9), 2, progress=True)) == [row(i) for i in range(9)]
    out, err = capfd.readouterr()
    assert out == ""
    assert "9/9" in err


@pytest.mark.parametrize("processes", [1, 2])
def test_real_crystals_give_what_the_encoder_gives(processes: int, examples: list[Path], tmp_path: Path) -> None:
    encoder = ScopeEncoder()
    overlap = Structure(Lattice.cubic(4.0), ["Na", "Cl"], [[0, 0, 0], [0, 0, 0.01]])
    good = [*examples, *map(str, examples), *map(Structure.from_file, examples)]
    rows = list(encode_batch(encoder, [*good, overlap, tmp_path / "absent.cif"], processes))
    assert rows[:-2] == [encoder.describe(crystal) for crystal in good]
    assert kinds(rows[-2:]) == ["OverlappingAtomsError", "CrystalReadError"]


def test_ctrl_c_ends_parent_and_workers(tmp_path: Path) -> None:
    """As from a terminal: the whole group gets the signal; nothing stays behind, and workers print nothing."""
    script = tmp_path / "script.py"
    script.write_text(
        "import os, signal, sys, time\n"
        "from cloud_hf.parallel.batch import encode_batch\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it for its background jobs\n"
        "class Hang:\n"
        "    def describe(self, crystal):\n"
        "        os.write(1, b'%d\\n' % os.getpid())  # a line at once, so that two workers' lines stay whole\n"
        "        time.sleep(10_000)\n"
        "if __name__ == '__main__':\n"
        "    list(encode_batch(Hang(), 'ab', 2))\n"
    )
    parent = subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert parent.stdout is not None
    workers = [int(parent.stdout.readline()) for _ in range(2)]
    os.killpg(parent.pid, signal.SIGINT)
    _, err = parent.communicate(timeout=600)
    assert err.count("KeyboardInterrupt") == 1
    for process in workers:
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)
