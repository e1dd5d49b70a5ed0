"""The folder of a study: whose it is, the cells that are done, and the results."""

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from transformers.utils import SAFE_WEIGHTS_NAME

import cloud_hf
from cloud_hf.data.tables import check_output
from cloud_hf.errors import StudyError
from cloud_hf.files import read_json, refuse_other_settings, write_text

__all__ = ["FAILURES_FILE", "STUDY_FILE", "StudyFolder", "digest_of", "provenance", "sha256_of"]

STUDY_FILE = "study.json"
RESULTS_FILE = "results.json"
FAILURES_FILE = "failures.csv"
"""Rows without a usable string, beside the results."""
REPORT_FILE = "report.md"


class StudyFolder:
    """Results of one study; an interrupted study goes on with the cells that are missing.

    Args:
        path: Folder; made if it is not there.
        study: Name of the study.
        settings: What decides its results, as JSON can hold it: what the data hold (a digest, not a path), how models
            are trained. What only selects a part (folds, tasks) belongs in the names of cells.

    Raises:
        StudyError: The folder holds another study, one of other settings, or files of something else.
        TableError: It cannot be written to.
    """

    def __init__(self, path: str | Path, study: str, settings: Mapping[str, Any]) -> None:
        self.path = Path(path)
        self.study = study
        self.settings: dict[str, Any] = json.loads(json.dumps(settings))
        check_output(self.path / STUDY_FILE)
        marker = self.path / STUDY_FILE
        if marker.is_file():
            before = _read(marker)
            if before.get("study") != study:
                raise StudyError(
                    f"holds the study {before.get('study')!r}, not {study!r}; give another --out.",
                    source=str(self.path),
                )
            refuse_other_settings(self.path, before.get("settings", {}), self.settings, error=StudyError)
        elif self.path.is_dir() and any(self.path.iterdir()):
            raise StudyError(
                "holds files that are not of a study; give a new folder with --out.", source=str(self.path)
            )
        else:
            write_text(json.dumps({"study": study, "settings": self.settings}, indent=1) + "\n", marker)

    def cell(self, name: str, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return what a cell holds, or compute it and keep it.

        Args:
            name: Name of its file below `cells/`; may have a folder, as `dielectric/fold_0`.
            compute: Gives the result as JSON can hold it; `seconds` is added.
        """
        path = self.path / "cells" / f"{name}.json"
        if path.is_file():
            return _read(path)
        begin = time.perf_counter()
        result = json.loads(json.dumps(compute()))
        result["seconds"] = round(time.perf_counter() - begin, 1)
        write_text(json.dumps(result) + "\n", path)
        return dict(result)

    def has(self, name: str) -> bool:
        """Whether a cell is done."""
        return (self.path / "cells" / f"{name}.json").is_file()

    def write_results(self, results: Mapping[str, Any]) -> Path:
        """Write `results.json` with study, settings and versions, and return its path."""
        path = self.path / RESULTS_FILE
        whole = {"study": self.study, "settings": self.settings, **provenance(), "results": results}
        write_text(json.dumps(whole, indent=1, ensure_ascii=False, allow_nan=False) + "\n", path)
        return path

    def write_report(self, text: str) -> Path:
        """Write `report.md` and return its path."""
        write_text(text, self.path / REPORT_FILE)
        return self.path / REPORT_FILE


def sha256_of(path: str | Path) -> str:
    """Return the SHA-256 of a file.

    Raises:
        StudyError: There is no such file.
    """
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise StudyError(f"cannot be read ({error.strerror}).", source=str(path)) from error


def digest_of(path: str | Path) -> str:
    """Short hash of a file, or of the weights in the folder of a checkpoint, by which results know what made them.

    Raises:
        StudyError: There is no such file.
    """
    path = Path(path)
    return sha256_of(path / SAFE_WEIGHTS_NAME if path.is_dir() else path)[:12]


def provenance() -> dict[str, str]:
    """Version of the package and of torch, and what computed."""
    device = "CPU"
    if torch.cuda.is_available():
        device = torch.cuda.get_device_name()
    elif torch.accelerator.is_available():
        device = str(torch.accelerator.current_accelerator())
    return {"version": cloud_hf.__version__, "torch": torch.__version__, "device": device}


def _read(path: Path) -> dict[str, Any]:
    return read_json(path, error=StudyError, remedy="Remove it to go on.")
