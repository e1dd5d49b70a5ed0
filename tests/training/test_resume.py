"""A run that is killed, anywhere, and resumed ends with the weights of the uninterrupted one; others are refused."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from cloud_hf.training.checkpointing import CHECKPOINT_FILE, newest_checkpoint, what_is_missing

RUNS = Path(__file__).with_name("runs.py")
BASE = ["--validation-fraction", "0.1", "--num-train-epochs", "3", "--warmup-steps", "0", "--logging-steps", "1"]
SAVES = ["--save-strategy", "steps", "--save-steps", "2"]
RESUME = ["--resume-from-checkpoint", "true"]
VARIANTS = {
    "plain": [],
    "packed, bf16, segments, accumulated, evaluated": [
        "--packing", "true", "--packing-length", "64", "--bf16", "true", "--masking", "segment",
        "--gradient-accumulation-steps", "2", "--per-device-train-batch-size", "2", "--eval-strategy", "epoch",
        "--element-descriptors", "true", "--site-multiplicity", "true",
    ],
}  # fmt: skip


def weights_hash(folder: Path) -> str:
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


def losses(folder: Path) -> list[float]:
    """Logged losses, from the newest checkpoint."""
    newest = newest_checkpoint(folder)
    assert newest is not None
    history = json.loads((newest / "trainer_state.json").read_text())["log_history"]
    return [entry["loss"] for entry in history if "loss" in entry]


def run_scenarios(folder: Path, scenarios: list[dict[str, Any]]) -> tuple[list[int], str]:
    """Run them in forks of a fresh process; return their statuses and what they said on standard error."""
    (folder / "scenarios.json").write_text(json.dumps(scenarios))
    command = [sys.executable, "-W", "ignore", RUNS, folder / "scenarios.json", folder / "statuses.json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads((folder / "statuses.json").read_text()), done.stderr


@pytest.mark.train
@pytest.mark.parametrize("variant", VARIANTS)
def test_killed_and_resumed_is_as_if_uninterrupted(variant: str, strings_table: Path, tiny_flags, tmp_path) -> None:
    flags = ["pretrain", "--data", str(strings_table), *tiny_flags, "--max-steps", "-1", *BASE, *VARIANTS[variant]]
    flags += ["--save-strategy", "steps", "--save-steps", "4"]
    step = random.SystemRandom().randrange(9, 12)  # in the second or third epoch
    killed = ["--output-dir", str(tmp_path / "killed")]
    scenarios = [
        {"argv": [*flags, "--output-dir", str(tmp_path / "whole")]},
        {"argv": [*flags, *killed, *RESUME], "kill": {"in_save": 4}},  # nothing to resume from yet: a new run
        {"argv": [*flags, *killed, *RESUME], "kill": {"before_rename": 8}},
        {"argv": [*flags, *killed, *RESUME], "kill": {"step": step}},
        {"argv": [*flags, *killed, *RESUME]},
    ]
    statuses, said = run_scenarios(tmp_path, scenarios)
    assert statuses == [0, -9, -9, -9, 0], said[-4000:]
    assert weights_hash(tmp_path / "killed") == weights_hash(tmp_path / "whole"), f"killed after step {step}"
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")
    assert not list((tmp_path / "killed").glob(".*"))
    validation = [json.loads((tmp_path / name / "validation_results.json").read_text()) for name in ("killed", "whole")]
    assert validation[0]["validation_perplexity"] == validation[1]["validation_perplexity"]


@pytest.mark.train
def test_no_space_left_harms_nothing(strings_table: Path, tiny_flags, tmp_path: Path) -> None:
    flags = ["pretrain", "--data", str(strings_table), *tiny_flags, "--max-steps", "6", *BASE, *SAVES]
    limited = [*flags, "--output-dir", str(tmp_path / "limited")]
    scenarios = [
        {"argv": [*flags, "--output-dir", str(tmp_path / "whole")]},
        {"argv": limited, "kill": {"no_space_after": 2, "bytes": 100_000}},
    ]
    statuses, said = run_scenarios(tmp_path, scenarios)
    assert statuses == [0, 2], said[-4000:]
    assert "the checkpoint of step 4 cannot be written" in said
    assert "--resume-from-checkpoint true" in said
    assert [path.name for path in (tmp_path / "limited").iterdir()] == ["checkpoint-2"]
    assert what_is_missing(tmp_path / "limited" / "checkpoint-2") is None
    assert run_scenarios(tmp_path, [{"argv": [*limited, *RESUME]}])[0] == [0]
    assert weights_hash(tmp_path / "limited") == weights_hash(tmp_path / "whole")


@pytest.fixture(scope="module")
def flags(strings_table: Path, tiny_flags: list[str]) -> list[str]:
    return ["--data", str(strings_table), *tiny_flags, "--max-steps", "6", *BASE, *SAVES]


@pytest.fixture(scope="module")
def finished(flags: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with the checkpoints 2, 4 and 6."""
    from cloud_hf.cli.main import main

    folder = tmp_path_factory.mktemp("finished") / "run"
    assert main(["pretrain", *flags, "--output-dir", str(folder)]) == 0
    return folder


def damage(folder: Path, how: str) -> None:
    """Leave what a save that was interrupted, or a copy that was, leaves."""
    if how == "half a file":
        path = folder / "optimizer.pt"
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif how == "a file missing":
        (folder / "rng_state.pth").unlink()
    else:
        (folder / CHECKPOINT_FILE).unlink()


@pytest.mark.parametrize("how", ["half a file", "a file missing", "no list of files"])
def test_a_checkpoint_that_is_not_whole_is_passed_over(how: str, finished: Path, flags, cloud, tmp_path: Path) -> None:
    for step in (2, 4):
        shutil.copytree(finished / f"checkpoint-{step}", tmp_path / f"checkpoint-{step}")
    damage(tmp_path / "checkpoint-4", how)
    explicit = cloud(
        "pretrain", *flags, "--output-dir", tmp_path, "--resume-from-checkpoint", tmp_path / "checkpoint-4"
    )
    assert explicit.status == 2
    assert "checkpoint-4: cannot be resumed from" in explicit.err
    assert newest_checkpoint(tmp_path) == tmp_path / "checkpoint-2"
    assert cloud("pretrain", *flags, "--output-dir", tmp_path, *RESUME).status == 0
    assert weights_hash(tmp_path) == weights_hash(finished)
    assert what_is_missing(tmp_path / "checkpoint-4") is None  # written anew


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (["--hidden-size", "64"], "hidden_size was 32, is 64"),
        (["--num-hidden-layers", "1"], "num_hidden_layers was 2, is 1"),
        (["--seed", "4"], "seed was 3, is 4"),
        (["--per-device-train-batch-size", "4"], "strings per step was 8, is 4"),
        (["--masking", "segment"], "masking was token, is segment"),
        (["--mlm-probability", "0.3"], "mlm_probability was 0.15, is 0.3"),
        (["--packing", "true"], "packing was False, is True"),
        (["--bf16", "true"], "bf16 was False, is True"),
        (["--learning-rate", "1e-4"], "learning_rate was 0.0005, is 0.0001"),
        (["--max-steps", "8"], "max_steps was 6, is 8"),
        (["--data", "OTHER"], "hash of the training strings was"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
def test_a_run_with_other_settings_is_refused(change, named, finished, flags, strings, cloud, tmp_path: Path) -> None:
    pd.DataFrame({"scope": strings[1:]}).to_csv(tmp_path / "other.csv", index=False)
    change = [str(tmp_path / "other.csv") if word == "OTHER" else word for word in change]
    resume = ["--resume-from-checkpoint", finished / "checkpoint-4", "--output-dir", tmp_path / "out"]
    found = cloud("pretrain", *flags, *change, *resume)
    assert found.status == 2
    assert named in found.err
    assert "--model" in found.err
    assert not (tmp_path / "out" / "model.safetensors").exists()


def test_as_many_strings_per_step_in_other_batches_are_resumed(finished, flags, cloud, tmp_path, caplog) -> None:
    resume = ["--resume-from-checkpoint", finished / "checkpoint-4", "--output-dir", tmp_path]
    split = ["--per-device-train-batch-size", 4, "--gradient-accumulation-steps", 2]
    assert cloud("pretrain", *flags, *split, *resume).status == 0
    assert (tmp_path / "model.safetensors").exists()


def test_only_so_many_checkpoints_are_kept(finished: Path, flags, cloud, tmp_path: Path) -> None:
    assert cloud("pretrain", *flags, "--output-dir", tmp_path, "--save-total-limit", 2).status == 0
    assert sorted(path.name for path in tmp_path.glob("checkpoint-*")) == ["checkpoint-4", "checkpoint-6"]
    assert all(what_is_missing(path) is None for path in tmp_path.glob("checkpoint-*"))
    assert weights_hash(tmp_path) == weights_hash(finished)


def test_a_checkpoint_holds_no_pickle_of_the_arguments(finished: Path) -> None:
    assert not list(finished.rglob("training_args.bin"))


def test_a_second_run_replaces_the_checkpoints_of_the_first(finished, flags, cloud, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "run")
    assert cloud("pretrain", *flags, "--output-dir", tmp_path / "run", "--seed", 5).status == 0
    run = json.loads((tmp_path / "run" / "checkpoint-6" / CHECKPOINT_FILE).read_text())
    assert run["decisive"]["seed"] == 5
    assert not list((tmp_path / "run").glob(".*"))


def test_workers_that_outlive_an_epoch_are_refused(flags, cloud, tmp_path: Path) -> None:
    workers = ["--dataloader-num-workers", 1, "--dataloader-persistent-workers", "true"]
    found = cloud("pretrain", *flags, *workers, "--output-dir", tmp_path)
    assert found.status == 2
    assert "persistent" in found.err


def test_workers_give_the_same_weights(finished: Path, flags, cloud, tmp_path: Path) -> None:
    assert cloud("pretrain", *flags, "--dataloader-num-workers", 1, "--output-dir", tmp_path).status == 0
    assert weights_hash(tmp_path) == weights_hash(finished)
