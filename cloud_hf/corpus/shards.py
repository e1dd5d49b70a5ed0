"""Reading a corpus: its report and its shards, from a folder or from the Hub."""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from cloud_hf.corpus.schema import CORPUS_FILE
from cloud_hf.errors import CorpusError, one_line

__all__ = ["Corpus", "open_corpus"]

READ_ROWS = 4096


@dataclass(frozen=True)
class Corpus:
    """A corpus that is complete.

    Attributes:
        name: Folder or Hub id.
        report: What `corpus.json` holds.
        files: Place of each shard, as `datasets` reads it.
        rows: Rows of each shard.
    """

    name: str
    report: dict[str, Any]
    files: tuple[str, ...]
    rows: tuple[int, ...]

    def __len__(self) -> int:
        return sum(self.rows)

    @property
    def grammars(self) -> tuple[str, ...]:
        """Columns of strings."""
        return tuple(self.report["settings"]["grammars"])

    def shard(self, number: int, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Stream some columns of a shard piece by piece, through `datasets`.

        Raises:
            CorpusError: The shard is missing or damaged.
        """
        from datasets import load_dataset

        try:
            rows: Any = load_dataset(
                "parquet", data_files=[self.files[number]], split="train", streaming=True, columns=list(columns)
            )
            for table in rows.with_format("arrow").iter(READ_ROWS):
                yield table.select(list(columns))
        except Exception as error:  # datasets, fsspec and pyarrow raise almost anything
            raise CorpusError(
                f"the shard cannot be read ({one_line(error, 300)}).", source=self.files[number]
            ) from error


def open_corpus(name: str | os.PathLike[str]) -> Corpus:
    """Open a corpus by its folder or its id on the Hub; its shards are read when they are needed.

    Raises:
        CorpusError: It is not there, not complete, or not a corpus.
    """
    text = os.fspath(name)
    folder = Path(text)
    if folder.is_dir():
        path = folder / CORPUS_FILE
        if not path.is_file():
            state = "not complete: repeat `cloud-hf corpus build`" if (folder / "work").is_dir() else "no corpus"
            raise CorpusError(f"is {state} (it has no {CORPUS_FILE}).", source=text)
        base = str(folder.absolute())
    else:
        path, base = _from_hub(text)
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        files = tuple(f"{base}/{shard['file']}" for shard in report["shards"] if shard["rows"])
        rows = tuple(int(shard["rows"]) for shard in report["shards"] if shard["rows"])
        return Corpus(text, report, files, rows)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorpusError(f"cannot be read as the report of a corpus ({one_line(error)}).", source=str(path)) from error


def _from_hub(name: str) -> tuple[Path, str]:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        path = Path(hf_hub_download(name, CORPUS_FILE, repo_type="dataset"))
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise CorpusError(f"neither a folder nor a corpus on the Hub ({one_line(error)}).", source=name) from error
    return path, f"hf://datasets/{name}"
