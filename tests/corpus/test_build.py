"""Building a corpus: the same strings from every form of input, and every row accounted for."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from cloud_hf import CloudError
from cloud_hf.corpus import BuildSettings, build_corpus
from cloud_hf.corpus.encoding import canonical_hash
from cloud_hf.corpus.report import equation
from cloud_hf.errors import CorpusError
from cloud_hf.parallel import pool
from waiting import Hang, wait_until

from .conftest import FORMS, Crystal, cif, no_leftovers, same_corpus, tables, write_jsonl, write_parquet

SMALL = BuildSettings(rows=37)


def build(inputs: list[str], output: Path, settings: BuildSettings = SMALL) -> dict[str, Any]:
    """In this process, without a time limit, which is quick."""
    return build_corpus(inputs, output, settings, processes=1, timeout=None)


@pytest.fixture(scope="module")
def whole(mixed: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The corpus of `mixed`, to be compared with; tests must not change it."""
    folder = tmp_path_factory.mktemp("whole") / "corpus"
    build(mixed, folder)
    return folder


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_input_gives_the_same_strings(
    form: str, crystals: list[Crystal], strings: dict[str, str], tmp_path: Path
) -> None:
    report = build([str(FORMS[form](crystals, tmp_path))], tmp_path / "corpus")
    assert report["rows"] == {"in": 144, "out": 144, "duplicates": 0, "quarantined": 0}
    rows = tables(tmp_path / "corpus")["shards"]
    assert dict(zip(rows["id"], rows["sites"], strict=True)) == strings
    assert [bytes.fromhex(name) for name in rows["hash"]] == [canonical_hash(scope) for scope in rows["sites"]]
    assert rows["hash"].is_unique
    assert (rows["n_sites"] == [len(row["numbers"]) for row in sorted_as(rows["id"], crystals)]).all()
    assert rows["encoder"].str.startswith("sites, canonical, spglib").all()
    assert rows["versions"].str.contains("cloud-hf").all()
    no_leftovers(tmp_path / "corpus")


def sorted_as(ids: pd.Series, crystals: list[Crystal]) -> list[Crystal]:
    known = {row["id"]: row for row in crystals}
    return [known[name] for name in ids]


def test_every_grammar_has_the_string_of_its_encoder(crystals: list[Crystal], tmp_path: Path) -> None:
    from cloud_hf import ScopeEncoder

    chosen = crystals[::12]
    build([str(write_jsonl(chosen, tmp_path / "rows.jsonl"))], tmp_path / "corpus")
    rows = tables(tmp_path / "corpus")["shards"]
    for grammar in ("sites", "composition", "full"):
        encoder = ScopeEncoder(grammar)
        assert rows[grammar].tolist() == [encoder.encode(row) for row in chosen]
    known = ScopeEncoder().describe(chosen[-1])
    assert (rows["formula"].iloc[-1], rows["space_group"].iloc[-1], rows["n_atoms"].iloc[-1]) == (
        known.formula,
        known.space_group,
        known.n_atoms,
    )


def test_a_disordered_crystal_has_a_composition_alone(tmp_path: Path) -> None:
    from cloud_hf import ScopeEncoder

    alloy = {
        "id": "alloy",
        "attributes": {
            "lattice_vectors": [[3, 0, 0], [0, 3, 0], [0, 0, 3]],
            "cartesian_site_positions": [[0, 0, 0]],
            "species_at_sites": ["mix"],
            "species": [{"name": "mix", "chemical_symbols": ["Cu", "Au"], "concentration": [0.5, 0.5]}],
        },
    }
    lines = str(write_jsonl([alloy], tmp_path / "rows.jsonl"))
    build([lines], tmp_path / "corpus")
    row = tables(tmp_path / "corpus")["shards"].iloc[0]
    assert row["composition"] == ScopeEncoder("composition").encode(alloy)
    assert pd.isna(row["sites"])
    assert pd.isna(row["full"])
    assert row["hash"] == canonical_hash(row["composition"]).hex()
    build([lines], tmp_path / "sites", BuildSettings(("sites",)))
    assert tables(tmp_path / "sites")["quarantine"]["error"].tolist() == ["DisorderedStructureError"]


def test_duplicates_keep_the_first_and_every_row_is_somewhere(mixed: list[str], tmp_path: Path) -> None:
    report = build(mixed, tmp_path / "corpus")
    found = tables(tmp_path / "corpus")
    assert report["rows"] == {"in": 41 + 71 + 85, "out": 144, "duplicates": 50, "quarantined": 3}
    assert equation(report["rows"]) == "197 rows in = 144 rows out + 50 duplicates + 3 quarantined"
    assert [len(found[kind]) for kind in ("shards", "duplicates", "quarantine")] == [144, 50, 3]
    assert found["shards"]["hash"].is_unique
    assert set(found["duplicates"]["hash"]) <= set(found["shards"]["hash"])
    assert found["shards"]["provider"].value_counts().to_dict() == {"a": 40, "b": 50, "c": 54}
    assert found["duplicates"]["provider"].value_counts().to_dict() == {"c": 30, "b": 20}
    assert report["counts"]["space_groups"] == {"221": 96, "225": 48}
    reasons = found["quarantine"]["reason"].tolist()
    for reason, word in zip(
        reasons, ("zz_broken.cif: not a CIF", "do not make a crystal", "c.jsonl:84: the line is cut"), strict=True
    ):
        assert word in reason


def test_the_number_of_processes_changes_nothing(whole: Path, mixed: list[str], tmp_path: Path) -> None:
    build_corpus(mixed, tmp_path / "two", SMALL, processes=2, timeout=60.0)
    same_corpus(whole, tmp_path / "two")


def test_a_worker_stays_from_task_to_task(
    whole: Path, mixed: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it has learned of symmetry takes a second, and would be learned again by each task."""
    started = []
    start = pool.Pool._start_worker
    monkeypatch.setattr(pool.Pool, "_start_worker", lambda self: (started.append(1), start(self)))
    build_corpus(mixed, tmp_path / "corpus", SMALL, processes=1, timeout=60.0)
    assert len(started) == 1
    same_corpus(tmp_path / "corpus", whole)
    build_corpus([], tmp_path / "corpus", processes=1, timeout=60.0)
    assert len(started) == 1


def test_the_number_of_parts_in_which_duplicates_are_looked_for_changes_nothing(
    whole: Path, mixed: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cloud_hf.corpus import plan

    monkeypatch.setattr(plan, "BUCKET_ROWS", 30)
    build(mixed, tmp_path / "seven")
    assert json.loads((tmp_path / "seven" / "work" / "plan" / "plan.json").read_text())["buckets"] == 7
    same_corpus(whole, tmp_path / "seven")


def test_rows_say_who_published_them_under_which_licence(crystals: list[Crystal], tmp_path: Path) -> None:
    rows = [crystals[0] | {"provider": "mp", "license": "CC-BY-4.0"}, crystals[1]]
    path = write_jsonl(rows, tmp_path / "rows.jsonl")
    build([str(path)], tmp_path / "corpus", BuildSettings(license="MIT"))
    found = tables(tmp_path / "corpus")["shards"]
    assert found["provider"].tolist() == ["mp", "rows"]
    assert found["license"].tolist() == ["CC-BY-4.0", "MIT"]


class TestAgain:
    def test_a_finished_corpus_is_left_as_it_is(self, mixed: list[str], tmp_path: Path) -> None:
        first = build(mixed, tmp_path / "corpus")
        times = {path: path.stat().st_mtime_ns for path in (tmp_path / "corpus").rglob("*.parquet")}
        assert build(mixed, tmp_path / "corpus") == first
        assert build([], tmp_path / "corpus") == first
        assert times == {path: path.stat().st_mtime_ns for path in (tmp_path / "corpus").rglob("*.parquet")}

    def test_a_folder_holds_one_corpus(self, mixed: list[str], tmp_path: Path) -> None:
        build(mixed, tmp_path / "corpus")
        with pytest.raises(CorpusError, match=r"made with other settings: .*symprec was 0.01, is 0.1"):
            build(mixed, tmp_path / "corpus", BuildSettings(rows=37, symprec=0.1))
        with pytest.raises(CorpusError, match="inputs"):
            build(mixed[:1], tmp_path / "corpus")

    @pytest.mark.parametrize("inputs", [["absent"], [], ["."]])
    def test_inputs_that_cannot_be_used(self, inputs: list[str], tmp_path: Path, monkeypatch: Any) -> None:
        (tmp_path / "empty").mkdir()
        monkeypatch.chdir(tmp_path / "empty")
        with pytest.raises(CloudError):
            build(inputs, tmp_path / "corpus")


# ------------------------------------------------------------------------------------------------ crashes


def forked(work: Callable[[], Any]) -> int:
    """Exit status of `work` in a fork of this process; negative: the signal that ended it."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def killed_at(event: int, inputs: list[str], output: Path) -> int:
    """Build in a fork that is killed at a certain event: a row, or right before or after a file takes its name."""
    from cloud_hf.corpus import build as module

    left = event

    def count(*_: Any) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def work() -> None:
        engine = module.import_engine()
        replace, local, mark = Path.replace, engine.run_local, engine.LocalTasks.mark_rank_as_completed

        def watched(*arguments: Any) -> Any:
            count()
            done = replace(*arguments)
            count()
            return done

        def marked(*arguments: Any) -> None:
            count()
            mark(*arguments)
            count()

        Path.replace = watched  # type: ignore[method-assign, assignment]
        engine.LocalTasks.mark_rank_as_completed = marked
        engine.run_local = lambda root, processes, timeout, progress: local(root, processes, timeout, count)
        build(inputs, output)

    return forked(work)


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))])
def test_ten_kills_lose_no_row_and_double_none(seed: int, whole: Path, mixed: list[str], tmp_path: Path) -> None:
    import random

    chance = random.Random(seed)
    kills = 0
    while kills < 10:
        status = killed_at(chance.randrange(1, 60), mixed, tmp_path / "killed")
        if status == 0:
            break
        assert status == -signal.SIGKILL
        kills += 1
    assert kills > 4
    build(mixed, tmp_path / "killed")
    same_corpus(whole, tmp_path / "killed")
    no_leftovers(tmp_path / "killed")


def test_a_full_disk_damages_nothing(whole: Path, mixed: list[str], tmp_path: Path) -> None:
    """A limit on the size of files fails as a full disk does: in the middle of a write."""
    for bytes_left in (100, 1_500, 4_000):

        def work(limit: int = bytes_left) -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
            with pytest.raises(CorpusError, match=r"cannot be written .* the same command again"):
                build(mixed, tmp_path / "full")

        assert forked(work) == 0
        assert not (tmp_path / "full" / "corpus.json").exists()
    build(mixed, tmp_path / "full")
    same_corpus(whole, tmp_path / "full")
    no_leftovers(tmp_path / "full")


def test_a_row_whose_worker_dies_by_chance_is_not_lost(
    crystals: list[Crystal], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system ends one worker; the crystal that it was at is tried again, one that kills every worker is not."""
    from cloud_hf.corpus import stages
    from cloud_hf.corpus.encoding import RecordEncoder

    class Doomed(RecordEncoder):
        def describe(self, payload: Any) -> Any:
            if payload.source.endswith(":5") and not (tmp_path / "died").exists():
                (tmp_path / "died").touch()
                os.kill(os.getpid(), signal.SIGKILL)
            if payload.source.endswith(":7"):
                os.kill(os.getpid(), signal.SIGKILL)
            return super().describe(payload)

    monkeypatch.setattr(stages, "RecordEncoder", Doomed)
    monkeypatch.setattr(stages, "_preload", lambda: None)
    path = write_parquet(crystals[:20], tmp_path / "rows.parquet")
    status = forked_with_fork_workers(lambda: build_corpus([str(path)], tmp_path / "corpus", SMALL, 2, 60.0))
    assert status == 0
    found = tables(tmp_path / "corpus")
    assert (tmp_path / "died").exists()
    assert found["quarantine"]["source"].tolist() == [f"{path}:7"]
    assert found["quarantine"]["error"].tolist() == ["WorkerDiedError"]
    assert found["shards"]["id"].tolist() == [row["id"] for row in crystals[:20] if row is not crystals[7]]


@pytest.mark.parametrize("form", ["folder", "blocks", "tar", "tar.gz", "zip", "column", "lines"])
def test_a_crystal_that_hangs_while_it_is_parsed_costs_its_own_row(
    form: str, crystals: list[Crystal], tmp_path: Path, hang: Hang, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cloud_hf.crystals import opening

    parse = opening._cell_of
    monkeypatch.setattr(opening, "_cell_of", lambda data, *more: hang() if b"HANGS" in data else parse(data, *more))
    texts = [cif(row) for row in crystals[:3]]
    texts[1] += "# HANGS\n"
    path = tmp_path / {"column": "t.parquet", "lines": "t.jsonl", "blocks": "all.cif"}.get(form, f"cifs.{form}")
    if form == "column":
        pd.DataFrame({"id": ["a", "b", "c"], "cif": texts}).to_parquet(path)
    elif form == "lines":
        write_jsonl([{"cif": text} for text in texts], path)
    elif form == "blocks":
        path.write_text("".join(texts))
    else:
        folder = tmp_path / "cifs"
        folder.mkdir()
        for number, text in enumerate(texts):
            (folder / f"{number}.cif").write_text(text)
        kinds = {"tar": "tar", "tar.gz": "gztar", "zip": "zip"}
        path = Path(shutil.make_archive(str(folder), kinds[form], folder)) if form in kinds else folder
    status = forked_with_fork_workers(lambda: build_corpus([str(path)], tmp_path / "corpus", SMALL, 2, 600.0))
    assert status == 0
    found = tables(tmp_path / "corpus")
    assert len(found["shards"]) == 2
    assert found["quarantine"]["error"].tolist() == ["EncodingTimeoutError"]
    assert "600 s" in found["quarantine"]["reason"].iloc[0]


def test_every_structure_of_a_file_is_a_row(tmp_path: Path) -> None:
    pytest.importorskip("ase")
    head = 'Lattice="4 0 0 0 4 0 0 0 4" Properties=species:S:1:pos:R:3 pbc="T T T"'
    path = tmp_path / "all.extxyz"
    path.write_text("".join(f"1\n{head}\n{symbol} 0 0 0\n" for symbol in ("Cu", "Ag", "Qq", "Au")))
    report = build([str(path)], tmp_path / "corpus")
    assert report["rows"] == {"in": 4, "out": 3, "duplicates": 0, "quarantined": 1}
    found = tables(tmp_path / "corpus")
    assert found["shards"]["source"].tolist() == [f"{path}#0", f"{path}#1", f"{path}#3"]
    assert found["quarantine"]["source"].tolist() == [f"{path}#2"]


def test_a_path_in_a_table_is_relative_to_its_folder(crystals: list[Crystal], tmp_path: Path) -> None:
    (tmp_path / "a.cif").write_text(cif(crystals[0]))
    path = write_jsonl([{"structure": "a.cif"}, {"structure": "absent.cif"}], tmp_path / "rows.jsonl")
    build([str(path)], tmp_path / "corpus")
    found = tables(tmp_path / "corpus")
    assert found["shards"]["source"].tolist() == [f"{path}:0"]
    assert found["quarantine"]["reason"].str.contains("no such file").tolist() == [True]


KILLED = """
import multiprocessing, os, signal, sys
from cloud_hf import ScopeEncoder
from cloud_hf.parallel.worker import Worker

if __name__ == "__main__":
    workers = [Worker(ScopeEncoder(), multiprocessing.get_context(sys.argv[1])) for _ in range(2)]
    for worker in workers:
        assert worker.answers() == [b"ready"]
    with open(sys.argv[2], "w") as file:
        file.write(" ".join(str(worker.process.pid) for worker in workers))
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_workers_that_wait_end_with_a_run_that_is_killed(method: str, tmp_path: Path) -> None:
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    assert subprocess.run([sys.executable, script, method, tmp_path / "workers"]).returncode == -signal.SIGKILL
    left = [Path("/proc", name) for name in (tmp_path / "workers").read_text().split()]
    wait_until(lambda: not any(map(is_running, left)), "workers outlive a killed run")


def is_running(process: Path) -> bool:
    """Whether a folder of /proc is that of a process which still runs; it may end while it is looked at."""
    try:
        return ") Z " not in (process / "stat").read_text()
    except OSError:
        return False


def forked_with_fork_workers(work: Callable[[], Any]) -> int:
    """A class of a test reaches workers by fork alone."""
    import multiprocessing

    from cloud_hf.parallel import pool

    def run() -> None:
        pool.start_method = lambda _: multiprocessing.get_context("fork")
        work()

    return forked(run)


def test_a_complete_corpus_that_lost_a_shard_is_not_called_complete(mixed: list[str], tmp_path: Path) -> None:
    build(mixed, tmp_path / "corpus")
    shard = tmp_path / "corpus" / "shards" / "00001.parquet"
    pd.read_parquet(shard).iloc[1:].to_parquet(shard)
    with pytest.raises(CorpusError, match=r"00001\.parquet: has 2 rows, not 3"):
        build(mixed, tmp_path / "corpus")
    shard.unlink()
    with pytest.raises(CorpusError, match=r"00001\.parquet: cannot be read"):
        build([], tmp_path / "corpus")


def test_the_report_says_what_the_folder_holds(mixed: list[str], tmp_path: Path) -> None:
    report = build(mixed, tmp_path / "corpus")
    assert json.loads((tmp_path / "corpus" / "corpus.json").read_text()) == report
    assert sum(shard["rows"] for shard in report["shards"]) == report["rows"]["out"]
    assert all((tmp_path / "corpus" / shard["file"]).is_file() for shard in report["shards"])
