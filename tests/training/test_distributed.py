"""One process or two (torchrun, gloo), accumulated or not, DDP or FSDP: the same losses, and exact resumption."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils.launch import prepare_multi_gpu_env
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForMaskedLM

from cloud_hf.cli.main import main
from cloud_hf.training.checkpointing import newest_checkpoint

ROOT = Path(__file__).parents[2]
RUNS = Path(__file__).with_name("runs.py")
RESUME = ["--resume-from-checkpoint", "true"]


def losses(folder: Path) -> list[float]:
    """Loss of every step, from the newest checkpoint."""
    newest = newest_checkpoint(folder)
    assert newest is not None
    history = json.loads((newest / "trainer_state.json").read_text())["log_history"]
    return [entry["loss"] for entry in history if "loss" in entry]


def batches(per_device: int, accumulated: int = 1) -> list[str]:
    return ["--per-device-train-batch-size", str(per_device), "--gradient-accumulation-steps", str(accumulated)]


def launch_environment(name: str) -> dict[str, str]:
    """What `accelerate launch --config_file scripts/accelerate/NAME.yaml` tells its processes."""
    words = [
        "--config_file",
        str(ROOT / "scripts" / "accelerate" / f"{name}.yaml"),
        "--num_processes",
        "2",
        "-m",
        "cloud_hf",
    ]
    parsed, _, _ = _validate_launch_command(launch_command_parser().parse_args(words))
    found = prepare_multi_gpu_env(parsed)
    return {key: value for key, value in found.items() if key.startswith(("ACCELERATE_", "FSDP_"))}


class Runs(NamedTuple):
    """Folders of finished runs by name, their statuses, and what all their processes said."""

    folder: Path
    statuses: dict[str, int]
    messages: str = ""


@pytest.fixture(scope="module")
def flags(strings_table: Path, tiny_flags: list[str]) -> list[str]:
    """43 strings, so that the last step of an epoch of 8 a step is incomplete; no dropout, which differs by process."""
    return [
        "pretrain", "--data", str(strings_table), *tiny_flags, "--max-steps", "-1", "--num-train-epochs", "2",
        "--dropout", "0", "--validation-fraction", "0.1", "--warmup-steps", "0", "--logging-steps", "1",
        "--save-strategy", "steps", "--save-steps", "4",
    ]  # fmt: skip


def launch(folder: Path, scenarios: dict[str, dict[str, Any]]) -> Runs:
    """Run scenarios one after another in two processes that torchrun starts once."""
    sockets = [socket.socket() for _ in range(len(scenarios) + 1)]
    for opened in sockets:
        opened.bind(("127.0.0.1", 0))
    first, *ports = [opened.getsockname()[1] for opened in sockets]
    for opened in sockets:
        opened.close()
    listed = [{"ports": ports} | scenario for scenario in scenarios.values()]
    (folder / "scenarios.json").write_text(json.dumps(listed))
    command = [sys.executable, "-W", "ignore", "-m", "torch.distributed.run", "--nproc_per_node", "2"]
    command += ["--master_addr", "127.0.0.1", "--master_port", str(first)]
    command += [str(RUNS), str(folder / "scenarios.json"), str(folder / "statuses.json")]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-4000:]
    statuses = json.loads((folder / "statuses.json").read_text())
    return Runs(folder, dict(zip(scenarios, statuses, strict=True)), done.stderr)


@pytest.fixture(scope="module")
def ddp(flags: list[str], tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """The plainest run of two processes."""
    folder = tmp_path_factory.mktemp("ddp")
    argv = [*flags, *batches(4), "--output-dir", str(folder / "ddp")]
    return launch(folder, {"ddp": {"argv": argv, "environment": launch_environment("ddp")}})


@pytest.fixture(scope="module")
def two(flags: list[str], tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Runs that are accumulated, killed and resumed, sharded, and that keep their best checkpoint."""
    folder = tmp_path_factory.mktemp("two")

    def to(name: str) -> list[str]:
        return ["--output-dir", str(folder / name)]

    best = ["--load-best-model-at-end", "true", "--eval-strategy", "steps", "--eval-steps", "4"]
    scenarios: dict[str, dict[str, Any]] = {
        "accumulated": {"argv": [*flags, *batches(2, 2), *to("accumulated")]},
        "killed": {"argv": [*flags, *batches(4), *to("killed")], "kill": {"step": 10}},
        "resumed": {"argv": [*flags, *batches(4), *to("killed"), *RESUME]},
        "fsdp": {"argv": [*flags, *batches(4), *to("fsdp")], "environment": launch_environment("fsdp")},
        "best": {"argv": [*flags, *batches(4), *to("best"), *best]},
    }
    return launch(folder, scenarios)


@pytest.fixture(scope="module")
def one(flags: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight strings a step in a single process."""
    folder = tmp_path_factory.mktemp("one")
    assert main([*flags, *batches(8), "--output-dir", str(folder)]) == 0
    strings = json.loads((folder / "validation_results.json").read_text())["train_strings"]
    assert strings % 8
    assert len(losses(folder)) == 2 * (strings // 8 + 1)
    return folder


@pytest.mark.train
def test_every_run_ended_as_planned(two: Runs) -> None:
    assert two.statuses == {"accumulated": 0, "killed": -9, "resumed": 0, "fsdp": 0, "best": 0}


@pytest.mark.train
def test_every_process_finds_the_best_checkpoint(two: Runs) -> None:
    newest = newest_checkpoint(two.folder / "best")
    assert newest is not None
    best = json.loads((newest / "trainer_state.json").read_text())["best_model_checkpoint"]
    assert Path(best).parent == two.folder / "best"
    assert "Could not locate the best model" not in two.messages


def test_accumulation_changes_no_loss(flags: list[str], one: Path, tmp_path: Path) -> None:
    assert main([*flags, *batches(4, 2), "--output-dir", str(tmp_path)]) == 0
    assert losses(tmp_path) == pytest.approx(losses(one), abs=1e-5)


@pytest.mark.train
def test_two_processes_have_the_losses_of_one(one: Path, ddp: Runs) -> None:
    assert ddp.statuses == {"ddp": 0}
    assert losses(ddp.folder / "ddp") == pytest.approx(losses(one), abs=1e-5)
    validate_alike(one, ddp.folder / "ddp")


@pytest.mark.train
@pytest.mark.parametrize("name", ["accumulated", "fsdp"])
def test_accumulated_or_sharded_they_have_the_losses_of_one(name: str, one: Path, two: Runs) -> None:
    assert losses(two.folder / name) == pytest.approx(losses(one), abs=1e-5)
    validate_alike(one, two.folder / name)


def validate_alike(*runs: Path) -> None:
    single, double = (json.loads((run / "validation_results.json").read_text()) for run in runs)
    assert double["validation_masked_words"] == single["validation_masked_words"]
    assert double["validation_perplexity"] == pytest.approx(single["validation_perplexity"], rel=1e-4)


@pytest.mark.train
def test_two_killed_and_resumed_processes_end_with_the_same_weights(ddp: Runs, two: Runs) -> None:
    folders = ddp.folder / "ddp", two.folder / "killed"
    whole, resumed = ((folder / "model.safetensors").read_bytes() for folder in folders)
    assert whole == resumed
    assert losses(folders[0]) == losses(folders[1])


@pytest.mark.train
def test_fsdp_shards_checkpoints_and_saves_a_model_that_loads(ddp: Runs, two: Runs) -> None:
    folder = two.folder / "fsdp"
    newest = newest_checkpoint(folder)
    assert newest is not None
    assert len(list((newest / "pytorch_model_fsdp_0").glob("*.distcp"))) == 2
    config = AutoConfig.from_pretrained(folder)
    assert config.architectures == ["CloudForMaskedLM"]
    files = {path.name for path in folder.iterdir()}
    assert files >= {path.name for path in (ddp.folder / "ddp").iterdir() if path.suffix == ".py"}
    model, loaded = AutoModelForMaskedLM.from_pretrained(folder, output_loading_info=True)
    assert not loaded["missing_keys"]
    assert not loaded["unexpected_keys"]
    expected = load_file(ddp.folder / "ddp" / "model.safetensors")
    found = model.state_dict()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=1e-4, rtol=1e-4)


@pytest.mark.train
def test_fsdp_resumes_exactly(flags: list[str], two: Runs, tmp_path: Path) -> None:
    run = [*flags, *batches(4), "--output-dir", str(tmp_path / "run")]
    environment = {"environment": launch_environment("fsdp")}
    scenarios = {
        "killed": {"argv": run, "kill": {"step": 10}} | environment,
        "in save": {"argv": [*run, *RESUME], "kill": {"in_save": 12}} | environment,
        "resumed": {"argv": [*run, *RESUME]} | environment,
    }
    assert launch(tmp_path, scenarios).statuses == {"killed": -9, "in save": -9, "resumed": 0}
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == (
        two.folder / "fsdp" / "model.safetensors"
    ).read_bytes()


@pytest.mark.train
def test_torchrun_starts_the_command_itself(flags: list[str], one: Path, tmp_path: Path) -> None:
    """The line of the README."""
    command = [sys.executable, "-W", "ignore", "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    position = flags.index("--use-cpu")
    flags = flags[:position] + flags[position + 2 :]  # found out by itself
    command += ["-m", "cloud_hf", *flags, *batches(4), "--output-dir", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    assert losses(tmp_path) == pytest.approx(losses(one), abs=1e-5)


def test_the_slurm_script_is_a_shell_script() -> None:
    done = subprocess.run(["bash", "-n", ROOT / "scripts" / "slurm" / "pretrain.sbatch"], check=False)
    assert done.returncode == 0
