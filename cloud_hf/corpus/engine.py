"""How a build runs: stages as datatrove executors, here, on Slurm or on Ray."""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from datatrove.executor import LocalPipelineExecutor
from datatrove.executor.base import PipelineExecutor
from datatrove.pipeline.base import PipelineStep

from cloud_hf.corpus.plan import load_plan
from cloud_hf.corpus.schema import Folders
from cloud_hf.corpus.stages import DuplicateStep, EncodeStep, ReportStep, ShardStep, remove_leftovers

__all__ = ["LocalTasks", "executor_chain", "remove_leftovers", "run_local"]


class LocalTasks(LocalPipelineExecutor):
    """datatrove's local executor for one task at a time, in this process.

    The processes work inside a task, where `encode_batch` replaces one that dies and stops one that hangs; datatrove's
    own pool would wait for a dead worker for ever, and its manager process outlives a killed run.
    """

    def run(self) -> None:
        """Run what this executor depends on, then its tasks that are not marked as completed."""
        if self.depends:
            self.depends.run()
        ranks = self.get_incomplete_ranks()
        with contextlib.ExitStack() as stack:
            for step in self.pipeline if ranks else ():
                if isinstance(step, EncodeStep):
                    stack.enter_context(step.workers())
            for rank in ranks:
                self._run_for_rank(rank, local_rank=1)  # the log of any rank but 0 goes to its file alone


def executor_chain(
    root: Path | str,
    processes: int,
    timeout: float | None,
    make: Callable[..., PipelineExecutor],
    encode_options: dict[str, Any] | None = None,
    progress: Callable[[int], Any] | None = None,
) -> PipelineExecutor:
    """Return the executor of the last stage, which depends on those before it.

    Args:
        root: Folder of the corpus, with its plan.
        processes: Worker processes of each encoding task.
        timeout: Longest time for one crystal, s; None for no limit.
        make: Class of the executors, or a function that takes `pipeline`, `tasks`, `logging_dir` and `depends`.
        encode_options: More arguments of `make` for the stage that encodes.
        progress: Called with 1 for each crystal (only in this process).
    """
    folders = Folders(Path(root).absolute())
    plan = load_plan(folders)
    encode = EncodeStep(str(folders.root), processes, timeout)
    encode.progress = progress
    stages: list[tuple[PipelineStep, int, dict[str, Any]]] = [
        (encode, plan.tasks, encode_options or {}),
        (DuplicateStep(str(folders.root)), plan.buckets, {}),
        (ShardStep(str(folders.root)), plan.tasks, {}),
        (ReportStep(str(folders.root)), 1, {}),
    ]
    executor: PipelineExecutor | None = None
    for step, tasks, options in stages:
        logs = str(folders.logs(str(step.name).replace(" ", "_")))
        executor = make(pipeline=[step], tasks=tasks, logging_dir=logs, depends=executor, **options)
    assert executor is not None  # noqa: S101  (there are four stages)
    return executor


def run_local(
    root: Path | str, processes: int, timeout: float | None, progress: Callable[[int], Any] | None = None
) -> None:
    """Run all stages on this machine.

    Raises:
        CloudError: What a stage raised; what was finished before stays.
    """
    executor = executor_chain(root, processes, timeout, LocalTasks, {}, progress)
    # datatrove writes tracebacks to stderr besides its log files; the command says in one line what is wrong
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere, contextlib.redirect_stderr(nowhere):
        executor.run()
