"""`build_corpus`: crystals from anywhere to deduplicated Parquet shards of SCOPE strings."""

import os
from collections.abc import Sequence
from typing import Any

from tqdm import tqdm

from cloud_hf.corpus.plan import BuildSettings, make_plan
from cloud_hf.corpus.report import read_report
from cloud_hf.corpus.schema import CORPUS_FILE, Folders
from cloud_hf.data.tables import check_output
from cloud_hf.errors import CorpusError
from cloud_hf.scope import TIMEOUT

__all__ = ["BuildSettings", "build_corpus", "import_engine"]


class _Bar(tqdm):  # type: ignore[type-arg]
    monitor_interval = 0  # no thread: a process with threads is not forked


def build_corpus(
    inputs: Sequence[str],
    output: str | os.PathLike[str],
    settings: BuildSettings | None = None,
    processes: int = 1,
    timeout: float | None = TIMEOUT,
    progress: bool | None = False,
) -> dict[str, Any]:
    """Encode crystals to a corpus; a run that was interrupted goes on where it was.

    Args:
        inputs: Folders, tar and zip archives of CIF files, `.parquet` and `.jsonl` tables of structures, folders of
            `Dataset.save_to_disk`, and `hf://OWNER/NAME` for a data set on the Hub; none: those of the begun corpus.
        output: Folder of the corpus.
        settings: What decides the rows.
        processes: Worker processes.
        timeout: Longest time for one crystal, s. `None` sets no limit.
        progress: Whether to show a bar; None: on a terminal.

    Returns:
        What `corpus.json` holds.

    Raises:
        CorpusError: An input that cannot be used, a folder that holds another corpus or one that lacks shards, a disk
            that is full.
    """
    engine = import_engine()
    folders = Folders(output)
    check_output(folders.root / CORPUS_FILE)
    plan = make_plan(inputs, folders, settings or BuildSettings())
    if not (folders.root / CORPUS_FILE).is_file():
        try:
            with _Bar(
                total=plan.rows, unit="crystal", desc="encode", disable=None if progress is None else not progress
            ) as bar:
                engine.run_local(folders.root, processes, timeout, bar.update)
        except OSError as error:
            raise CorpusError(
                f"cannot be written ({error.strerror or error}). What was written before is whole: "
                "make room, then give the same command again.",
                source=str(folders.root),
            ) from error
    engine.remove_leftovers(folders)
    return read_report(folders)


def import_engine() -> Any:
    """Return the module that runs tasks.

    Raises:
        CorpusError: datatrove is not installed.
    """
    try:
        from cloud_hf.corpus import engine
    except ImportError as error:
        raise CorpusError(f"Building a corpus needs datatrove ({error}): pip install 'cloud-hf[corpus]'.") from error
    return engine
