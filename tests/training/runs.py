"""Run `cloud-hf pretrain` several times, in forked processes that are killed on the way, alone or under torchrun.

    python runs.py SCENARIOS.json RESULTS.json

SCENARIOS is a list of {"argv": [...], "kill": what `arm` understands}. Imports are paid for once: each scenario is a
fork, in each process of torchrun. RESULTS is a list of exit statuses (negative: the signal).
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any

from accelerate.state import DistributedType, PartialState
from transformers import TrainerCallback

import cloud_hf.training.pretrain as module
from cloud_hf.cli.main import main
from cloud_hf.training import trainer as trainer_module


def die(*_: Any, **__: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class AtStep(TrainerCallback):
    """Do something after a step, or after a checkpoint was saved."""

    def __init__(self, step: int = -1, saved: int = -1, action: Any = die) -> None:
        self.step, self.saved, self.action = step, saved, action

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.step:
            self.action()

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.saved:
            self.action()


def arm(kill: dict[str, Any]) -> None:
    """Arrange how the run of this process ends.

    `step`: after this step; `in_save`: inside the save of this step, the weights written and the optimizer half;
    `before_rename`: when the checkpoint of this step is written but not yet in its place; `no_space_after`: files of
    more than `bytes` cannot be written any more after the checkpoint of this step.
    """
    kind = module.CloudTrainer
    callback = AtStep(step=kill.get("step", -1))
    if "no_space_after" in kill:
        limit = (kill["bytes"], resource.RLIM_INFINITY)
        callback = AtStep(saved=kill["no_space_after"], action=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit))

    class Doomed(kind):  # type: ignore[misc, valid-type]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.add_callback(callback)

        def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
            super()._save_optimizer_and_scheduler(output_dir)
            if self.state.global_step == kill.get("in_save"):
                path = Path(output_dir, "optimizer.pt")
                if path.exists():
                    os.truncate(path, path.stat().st_size // 2)
                die()

        def _save_checkpoint(self, model: Any, trial: Any) -> None:
            if self.state.global_step == kill.get("before_rename"):
                trainer_module._take_name = die
            super()._save_checkpoint(model, trial)

    module.CloudTrainer = Doomed  # type: ignore[misc]


def let_fsdp_run_on_cpus() -> None:
    """Accelerate ignores FSDP without accelerators, although torch shards on CPUs over gloo: pretend to have some."""
    first = PartialState.__init__

    def init(self: PartialState, *args: Any, **kwargs: Any) -> None:
        first(self, *args, **kwargs)
        if self.distributed_type == DistributedType.MULTI_CPU:
            self.distributed_type = DistributedType.MULTI_GPU

    PartialState.__init__ = init  # type: ignore[method-assign]


def run(scenario: dict[str, Any], port: int | None) -> int:
    """Run one scenario in a fork and return its status."""
    child = os.fork()
    if child == 0:
        if port is not None:
            os.environ["MASTER_PORT"] = str(port)
            os.environ.pop("TORCHELASTIC_USE_AGENT_STORE", None)
        os.environ |= scenario.get("environment", {})
        if "ACCELERATE_USE_FSDP" in os.environ:
            let_fsdp_run_on_cpus()
        if scenario.get("kill"):
            arm(scenario["kill"])
        status = 1
        try:
            status = main(scenario["argv"])
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    scenarios = json.loads(Path(sys.argv[1]).read_text())
    ports = scenarios[0].get("ports")
    statuses = [run(scenario, ports[index] if ports else None) for index, scenario in enumerate(scenarios)]
    if os.environ.get("RANK", "0") == "0":
        Path(sys.argv[2]).write_text(json.dumps(statuses))
