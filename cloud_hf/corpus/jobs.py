"""Job files: the same build for datatrove's executors on Slurm and on Ray."""

from pathlib import Path

from cloud_hf.corpus.schema import Folders, replacing

__all__ = ["JOB_KINDS", "write_job"]

_HEAD = '''"""Build the corpus {root} on {cluster}.

Start it with `python {path}` where folder and inputs can be reached, and again after a failure: finished tasks are
skipped.
"""

from datatrove.executor.{module} import {executor}

from cloud_hf.corpus.engine import executor_chain

CPUS_PER_TASK = {processes}


'''

_SLURM = """def make(cpus=1, **arguments):
    return SlurmPipelineExecutor(
        partition={partition!r},
        time={time!r},
        cpus_per_task=cpus,
        mem_per_cpu_gb=2,
        job_name="cloud-hf-corpus",
        qos=None,
        with_srun=False,
        **arguments,
    )


if __name__ == "__main__":
    chain = executor_chain({root!r}, CPUS_PER_TASK, {timeout!r}, make, {{"cpus": CPUS_PER_TASK}})
    chain.run()
"""

_RAY = """def make(cpus=1, **arguments):
    return RayPipelineExecutor(cpus_per_task=cpus, mem_per_cpu_gb=1, **arguments)


if __name__ == "__main__":
    chain = executor_chain({root!r}, CPUS_PER_TASK, {timeout!r}, make, {{"cpus": CPUS_PER_TASK}})
    chain.run()
"""

JOB_KINDS = {
    "slurm": ("Slurm", "slurm", "SlurmPipelineExecutor", _SLURM),
    "ray": ("Ray", "ray", "RayPipelineExecutor", _RAY),
}
"""Name, module and class of each cluster's executor, and the rest of its job file."""


def write_job(
    root: Path, kind: str, processes: int, timeout: float | None, partition: str = "cpu", time: str = "24:00:00"
) -> Path:
    """Write the Python file that runs the plan of a corpus on a cluster, and return its path.

    Args:
        root: Folder of the corpus, with its plan.
        kind: `slurm` or `ray`.
        processes: Processor cores of an encoding task.
        timeout: Longest time for one crystal, s; None for no limit.
        partition: Slurm's partition.
        time: Slurm's time limit of a task.

    Raises:
        CorpusError: The file cannot be written.
    """
    cluster, module, executor, rest = JOB_KINDS[kind]
    folder = str(root.absolute())
    path = Folders(folder).work / f"{kind}_job.py"
    text = (_HEAD + rest).format(
        root=folder, cluster=cluster, module=module, executor=executor, path=path, processes=processes,
        timeout=timeout, partition=partition, time=time,
    )  # fmt: skip
    with replacing(path) as aside:
        aside.write_text(text, encoding="utf-8")
    return path
