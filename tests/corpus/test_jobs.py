"""Job files for clusters: what they ask for, and the same rows as a local run."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from cloud_hf.cli.main import main
from cloud_hf.corpus import BuildSettings, build_corpus

from .conftest import no_leftovers, same_corpus

SBATCH = """#!{python}
# Stands in for sbatch: runs a job array at once, one task after another, and notes what was asked for.
import os, re, subprocess, sys
script = open(sys.argv[-1]).read()
with open({log!r}, "a") as log:
    log.write(" ".join(sys.argv[1:-1]) + "\\n" + script)
size = int(re.search(r"--array=0-(\\d+)", script)[1]) + 1
for number in range(size if {run} else 0):
    variables = {{"SLURM_ARRAY_TASK_ID": str(number), "SLURM_JOB_ID": "7", "SLURM_NODELIST": "localhost"}}
    subprocess.run(["bash", sys.argv[-1]], env=os.environ | variables, stdout=subprocess.DEVNULL, check=True)
print("Submitted batch job 7")
"""


def fake_cluster(folder: Path, run: bool) -> dict[str, str]:
    """A PATH with an sbatch that runs jobs here, or only notes them, and a scontrol that knows one host."""
    folder.mkdir()
    (folder / "sbatch").write_text(SBATCH.format(python=sys.executable, log=str(folder / "log"), run=run))
    (folder / "scontrol").write_text("#!/bin/sh\necho localhost\n")
    for name in ("sbatch", "scontrol"):
        (folder / name).chmod((folder / name).stat().st_mode | stat.S_IXUSR)
    return dict(os.environ) | {"PATH": f"{folder}:{Path(sys.executable).parent}:{os.environ['PATH']}"}


def run_job(kind: str, mixed: list[str], tmp_path: Path, variables: dict[str, str]) -> str:
    argv = ["corpus", "build", *mixed, "-o", str(tmp_path / "corpus"), "--rows", "70", "--executor", kind]
    assert main([*argv, "--processes", "2", "--partition", "short"]) == 0
    job = tmp_path / "corpus" / "work" / f"{kind}_job.py"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(job)], env=variables, cwd=tmp_path, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stderr


def check_same(mixed: list[str], tmp_path: Path) -> None:
    build_corpus(mixed, tmp_path / "local", BuildSettings(rows=70), timeout=None)
    same_corpus(tmp_path / "local", tmp_path / "corpus")
    no_leftovers(tmp_path / "corpus")


def test_a_slurm_job_asks_for_an_array_per_stage(mixed: list[str], tmp_path: Path) -> None:
    run_job("slurm", mixed, tmp_path, fake_cluster(tmp_path / "bin", run=False))
    log = (tmp_path / "bin" / "log").read_text()
    assert log.count("#SBATCH --partition=short") == 8  # four stages, and datatrove's statistics of each
    assert log.count("#SBATCH --array=0-4\n") == 2  # five tasks encode, five write shards
    assert log.count("#SBATCH --cpus-per-task=2") == 1
    assert log.count("RUN_OFFSET=0 --dependency=afterok:7") == 3  # each stage waits for the one before


@pytest.mark.slow
def test_slurm_tasks_give_the_rows_of_a_local_run(mixed: list[str], tmp_path: Path) -> None:
    run_job("slurm", mixed, tmp_path, fake_cluster(tmp_path / "bin", run=True))
    check_same(mixed, tmp_path)


@pytest.mark.slow
def test_ray_tasks_give_the_rows_of_a_local_run(mixed: list[str], tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="the run on Ray needs the extra 'ray'")
    # Ray's workers give way to everything else by default, and on a busy machine never end
    run_job("ray", mixed, tmp_path, os.environ | {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"})
    check_same(mixed, tmp_path)
