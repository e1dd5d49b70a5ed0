"""Screenings on a cluster: the pieces of a plan as tasks of datatrove's executors, as corpora are built."""

from pathlib import Path
from typing import Any

from datatrove.pipeline.base import PipelineStep

from cloud_hf.corpus.jobs import JOB_KINDS
from cloud_hf.files import write_text
from cloud_hf.screening.plan import Plan, load_plan
from cloud_hf.screening.run import make_evaluator, run_piece

__all__ = ["ScreenStep", "write_screen_job"]

_JOB = '''"""Run the screening {folder} on {cluster}.

Start it with `python {path}` where the folder can be reached, and again after a failure: finished pieces are skipped.
Then give the same command as before, without --executor: it finds the pieces and chooses the best.
"""

from datatrove.executor.{module} import {executor}

from cloud_hf.screening.cluster import ScreenStep

if __name__ == "__main__":
    {executor}(
        pipeline=[ScreenStep({folder!r})],
        tasks={tasks},
        logging_dir={logs!r},
        {options},
    ).run()
'''

_OPTIONS = {
    "slurm": 'partition={partition!r}, time={time!r}, cpus_per_task=1, mem_per_cpu_gb=4, job_name="cloud-hf-screen"',
    "ray": "cpus_per_task=1, mem_per_cpu_gb=4",
}


class ScreenStep(PipelineStep):
    """Run the pieces of a task: every piece whose number leaves the rank of the task.

    Args:
        folder: Folder of the plan.
    """

    type = "screening"
    name = "screen"

    def __init__(self, folder: str) -> None:
        super().__init__()
        self.folder = folder

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> None:
        """Work on one task; datatrove calls this."""
        plan = load_plan(self.folder)
        mine = [number for number in plan.missing if number % world_size == rank]
        if mine:
            evaluator = make_evaluator(plan)
            for number in mine:
                run_piece(plan, number, evaluator)


def write_screen_job(plan: Plan, kind: str, tasks: int, partition: str = "cpu", time: str = "24:00:00") -> Path:
    """Write the Python file that runs a screening on a cluster, and return its path.

    Args:
        plan: A saved plan.
        kind: `slurm` or `ray`.
        tasks: How many tasks share the pieces.
        partition: Slurm's partition.
        time: Slurm's time limit of a task.

    Raises:
        CloudError: The file cannot be written.
    """
    cluster, module, executor, _ = JOB_KINDS[kind]
    folder = plan.folder.absolute()
    path = folder / f"{kind}_job.py"
    text = _JOB.format(
        folder=str(folder), cluster=cluster, path=path, module=module, executor=executor, tasks=min(tasks, plan.pieces),
        logs=str(folder / "logs"), options=_OPTIONS[kind].format(partition=partition, time=time),
    )  # fmt: skip
    write_text(text, path)
    return path
