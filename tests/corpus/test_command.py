"""`cloud-hf corpus build` in processes of its own, killed at any moment."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cloud_hf.cli.main import main
from cloud_hf.corpus import BuildSettings, build_corpus
from waiting import wait_until

from .conftest import Crystal, no_leftovers, same_corpus, write_jsonl

RUN = [sys.executable, "-W", "ignore", "-m", "cloud_hf", "corpus", "build"]


def start(*argv: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*RUN, *map(str, argv)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ
    )


def alive(group: int) -> bool:
    """Whether a process of the run is left; its workers end when they notice that it is gone."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def kill_and_resume(inputs: list[str], folder: Path, kills: int, seed: int) -> None:
    """Kill builds at random moments, with another number of processes each time, until one is through."""
    chance = random.Random(seed)
    build_corpus(inputs, folder / "whole", BuildSettings(rows=12), processes=1, timeout=None)
    begun = folder / "killed" / "work" / "encoded"  # importing is no part of the work
    for number in range(kills):
        processes = 1 + number % 3
        run = subprocess.Popen(
            [*RUN, *inputs, "-o", str(folder / "killed"), "--rows", "12", "--processes", str(processes)],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        wait_until(lambda run=run: begun.is_dir() or run.poll() is not None, "the run does not begin")
        time.sleep(chance.uniform(0.0, 4.0))
        run.send_signal(signal.SIGKILL)
        run.wait()
        wait_until(lambda run=run: not alive(run.pid), "workers outlive a killed run")
    run = start(*inputs, "-o", folder / "killed", "--rows", 12, "--processes", 2)
    out, err = run.communicate()
    assert run.returncode == 1
    assert out.startswith("197 rows in = 144 rows out + 50 duplicates + 3 quarantined\n"), err
    same_corpus(folder / "whole", folder / "killed")
    no_leftovers(folder / "killed")


@pytest.mark.slow
def test_a_killed_command_goes_on_with_other_processes(mixed: list[str], tmp_path: Path) -> None:
    kill_and_resume(mixed, tmp_path, 1, seed=0)


@pytest.mark.slow
def test_ten_random_kills(mixed: list[str], tmp_path: Path) -> None:
    kill_and_resume(mixed, tmp_path, 10, seed=1)


def test_the_command_says_what_it_did(
    crystals: list[Crystal], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_jsonl(crystals[:5], tmp_path / "rows.jsonl")
    argv = ["corpus", "build", str(path), "-o", str(tmp_path / "corpus"), "--timeout", "0"]
    assert main(argv) == 0
    out, _ = capsys.readouterr()
    assert out.splitlines() == [
        "5 rows in = 5 rows out + 0 duplicates + 0 quarantined",
        f"1 shards -> {tmp_path / 'corpus'}; by provider: rows 5",
    ]
    (tmp_path / "bad.jsonl").write_text('{"structure": null}\n[]\n')
    assert main(["corpus", "build", str(tmp_path / "bad.jsonl"), "-o", str(tmp_path / "bad"), "--timeout", "0"]) == 1
    lines = capsys.readouterr().err.splitlines()[-2:]
    assert lines[0] == f"cloud-hf: 2 rows are quarantined; see {tmp_path / 'bad' / 'quarantine'}:"
    assert lines[1].startswith("  2 CrystalReadError: no crystal that can be read; ")
    assert main([*argv, "--symprec", "0.1"]) == 2
    assert "symprec was 0.01, is 0.1. Repeat the command" in capsys.readouterr().err
    assert main(["corpus", "build", str(tmp_path / "absent"), "-o", str(tmp_path / "other")]) == 2
    assert "there is no such file or folder" in capsys.readouterr().err
