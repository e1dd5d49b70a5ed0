"""Files and folders that are whole or not there, and folders in which the results of two runs never mix.

Whatever is written takes its name only when it is complete and on the disk: a process that is killed, a full disk or an
error on the way leaves what was there before. What such a process left beside the file is removed by the next one.
"""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cloud_hf.errors import CloudError, OutputError, one_line

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "copy_file",
    "new_file",
    "new_folder",
    "read_json",
    "refuse_other_settings",
    "replace_path",
    "save_figure",
    "setting_differences",
    "write_json",
    "write_text",
]

_ASIDE = ".aside-"


@contextmanager
def new_file(
    path: str | os.PathLike[str], *, error: type[CloudError] = OutputError, remedy: str = ""
) -> Iterator[Path]:
    """Give a temporary file beside `path` that takes its place at the end of the block, or vanishes after an error.

    Its folder is made if it is not there. A device such as `/dev/stdout` is given itself.

    Args:
        path: The file to be; it keeps the extension while it is written.
        error: What is raised where it cannot be written.
        remedy: What to do then, a sentence.

    Raises:
        CloudError: Of the type `error`: the disk is full, or the folder cannot be written to.
    """
    path = Path(path)
    if path.exists() and not path.is_file() and not path.is_dir():
        yield path
        return
    aside = _aside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(path)
        yield aside
        with aside.open("rb+") as file:  # a rename that reaches the disk before the content would leave an empty file
            os.fsync(file.fileno())
        aside.replace(path)
    except OSError as problem:
        raise error(_reason(problem, remedy), source=str(path)) from problem
    finally:
        with suppress(OSError):
            aside.unlink(missing_ok=True)


def write_text(
    text: str, path: str | os.PathLike[str], *, error: type[CloudError] = OutputError, remedy: str = ""
) -> None:
    """Write a text file in UTF-8; see `new_file`."""
    with new_file(path, error=error, remedy=remedy) as aside:
        aside.write_text(text, encoding="utf-8")


def write_json(
    value: Any,
    path: str | os.PathLike[str],
    *,
    indent: int | None = 1,
    error: type[CloudError] = OutputError,
    remedy: str = "",
) -> None:
    """Write what JSON can hold; see `new_file`."""
    write_text(json.dumps(value, ensure_ascii=False, indent=indent) + "\n", path, error=error, remedy=remedy)


def read_json(
    path: str | os.PathLike[str], *, error: type[CloudError] = CloudError, remedy: str = ""
) -> dict[str, Any]:
    """Read a file that holds one JSON object.

    Args:
        path: The file, in UTF-8.
        error: What is raised where it cannot be read.
        remedy: What to do then, a sentence.

    Raises:
        CloudError: Of the type `error`: there is no such file, or it is damaged or holds something else.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        raise error(f"cannot be read ({one_line(problem)}).{remedy and ' '}{remedy}", source=str(path)) from problem
    if not isinstance(content, dict):
        raise error(f"cannot be read (it holds no JSON object).{remedy and ' '}{remedy}", source=str(path))
    return content


def copy_file(source: str | os.PathLike[str], path: str | os.PathLike[str]) -> None:
    """Copy the content of a file; see `new_file`."""
    with new_file(path) as aside:
        shutil.copyfile(source, aside)


def save_figure(figure: "Figure", path: str | os.PathLike[str]) -> None:
    """Write a picture, its extension gives the format; see `new_file`.

    Raises:
        CloudError: It cannot be written.
    """
    with new_file(path) as aside:
        try:
            figure.savefig(aside, dpi=150)
        except ValueError as error:  # no such format
            raise CloudError(f"the picture cannot be written ({error}).", source=str(path)) from error


@contextmanager
def new_folder(path: str | os.PathLike[str], *, error: type[CloudError] = OutputError) -> Iterator[Path]:
    """Give a temporary folder beside `path` that takes its place at the end of the block, or vanishes after an error.

    A folder of that name is replaced with all that is in it.

    Args:
        path: The folder to be.
        error: What is raised where it cannot be written.

    Raises:
        CloudError: Of the type `error`: the disk is full, or the place cannot be written to.
    """
    folder = Path(path).absolute()
    aside = _aside(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(folder)
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
        yield aside
        replace_path(aside, folder)
    except OSError as problem:
        raise error(_reason(problem), source=str(path)) from problem
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def replace_path(written: Path, target: Path) -> None:
    """Rename a file or folder; a folder that is in the way is moved off first, and back if the renaming fails.

    Raises:
        OSError: It cannot be renamed.
    """
    if not target.is_dir():
        written.replace(target)
        return
    old = target.with_name(f".{target.name}{_ASIDE}{os.getpid()}-old")
    shutil.rmtree(old, ignore_errors=True)
    target.rename(old)
    try:
        written.rename(target)
    except OSError:
        old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _aside(path: Path) -> Path:
    """Where a process writes what is to be `path`; the extension tells some writers the format."""
    return path.with_name(f".{path.stem}{_ASIDE}{os.getpid()}{path.suffix}")


def _remove_leftovers(path: Path) -> None:
    """Remove what processes that are no more have left beside `path`."""
    start = f".{path.stem}{_ASIDE}"
    for left in path.parent.glob(f"{start}*{path.suffix}"):
        number = left.name.removeprefix(start).removesuffix(path.suffix)
        if number.isdigit() and not _is_running(int(number)):
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    if os.name != "posix":  # elsewhere signal 0 is no mere question
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it belongs to somebody else
        return True
    return True


def _reason(problem: OSError, remedy: str = "") -> str:
    return f"cannot be written ({problem.strerror or problem}).{remedy and ' '}{remedy}"


def setting_differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return `name was A, is B` for each setting that differs, sorted by name; a missing one counts as None."""
    before, now = _as_json(before), _as_json(now)
    names = [name for name in sorted(before.keys() | now.keys()) if before.get(name) != now.get(name)]
    return [f"{name} was {before.get(name)}, is {now.get(name)}" for name in names]


def refuse_other_settings(
    path: str | os.PathLike[str],
    before: Mapping[str, Any],
    now: Mapping[str, Any],
    *,
    remedy: str = "Give the same settings to go on, or another folder.",
    error: type[CloudError] = CloudError,
) -> None:
    """Stop where the results of other settings would be taken for those of this run.

    Args:
        path: Folder of the results.
        before: Settings that they were made with.
        now: Settings of this run, anything that JSON can hold.
        remedy: What to do, a sentence.
        error: What is raised.

    Raises:
        CloudError: Of the type `error`: settings differ; the message names them.
    """
    differing = setting_differences(before, now)
    if differing:
        raise error(f"was made with other settings: {'; '.join(differing)}. {remedy}", source=str(path))


def _as_json(settings: Mapping[str, Any]) -> dict[str, Any]:
    """As a file would give them back: a tuple is a list there."""
    return dict(json.loads(json.dumps(dict(settings), default=str)))
