"""Files and folders are whole or not there, whatever ends the process that writes them; settings never mix."""

import json
import os
import signal
import stat
from pathlib import Path

import pytest

from cloud_hf.errors import CheckpointError, CorpusError, OutputError, StudyError
from cloud_hf.files import (
    new_file,
    new_folder,
    read_json,
    refuse_other_settings,
    replace_path,
    setting_differences,
    write_json,
    write_text,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def full(*_: object, **__: object) -> None:
    raise OSError(28, "No space left on device")


class TestFile:
    def test_it_takes_its_name_at_the_end_of_the_block(self, tmp_path: Path) -> None:
        path = tmp_path / "deep" / "a.csv"
        with new_file(path) as aside:
            aside.write_text("whole")
            assert aside.suffix == ".csv"
            assert not path.exists()
        assert path.read_text() == "whole"
        assert names(path.parent) == ["a.csv"]

    @pytest.mark.parametrize("problem", [KeyboardInterrupt, RuntimeError])
    def test_an_error_leaves_what_was_there(self, problem: type[BaseException], tmp_path: Path) -> None:
        path = tmp_path / "a.txt"
        path.write_text("old")

        def half(aside: Path) -> None:
            aside.write_text("ha")
            raise problem

        with pytest.raises(problem), new_file(path) as aside:
            half(aside)
        assert path.read_text() == "old"
        assert names(tmp_path) == ["a.txt"]

    def test_a_full_disk_is_the_error_that_the_caller_names(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(OutputError, match=r"a\.txt: cannot be written \(No space left on device\)\.$"):
            write_text("x", tmp_path / "a.txt")
        with pytest.raises(CorpusError, match=r"No space left on device\)\. Make room\.$") as found:
            write_text("x", tmp_path / "a.txt", error=CorpusError, remedy="Make room.")
        assert found.value.source == str(tmp_path / "a.txt")
        assert names(tmp_path) == []

    def test_a_place_that_cannot_be(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("x")
        with pytest.raises(OutputError, match=r"a\.txt"):
            write_text("x", tmp_path / "file" / "a.txt")

    def test_a_device_is_written_itself(self) -> None:
        with new_file("/dev/null") as aside:
            aside.write_text("x")
        assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)

    def test_text_is_utf8_and_json_is_read_back(self, tmp_path: Path) -> None:
        write_text("3 Å\n", tmp_path / "t.txt")
        assert (tmp_path / "t.txt").read_bytes() == "3 Å\n".encode()
        write_json({"Å": [1, None, 2.5]}, tmp_path / "t.json")
        assert json.loads((tmp_path / "t.json").read_text(encoding="utf-8")) == {"Å": [1, None, 2.5]}
        assert "Å" in (tmp_path / "t.json").read_text(encoding="utf-8")


def killed(work: object) -> None:
    """Run something in a fork that is killed in the middle of it."""
    child = os.fork()
    if child == 0:
        try:
            work()  # type: ignore[operator]
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


class TestKilled:
    def test_a_killed_writer_leaves_nothing_that_the_next_one_does_not_remove(self, tmp_path: Path) -> None:
        path = tmp_path / "a.parquet"

        def work() -> None:
            with new_file(path) as aside:
                aside.write_text("ha")
                os.kill(os.getpid(), signal.SIGKILL)

        killed(work)
        assert not path.exists()
        assert len(names(tmp_path)) == 1
        write_text("whole", path)
        assert names(tmp_path) == ["a.parquet"]

    def test_a_killed_writer_of_a_folder(self, tmp_path: Path) -> None:
        path = tmp_path / "model"

        def work() -> None:
            with new_folder(path) as aside:
                (aside / "x").write_text("ha")
                os.kill(os.getpid(), signal.SIGKILL)

        killed(work)
        assert not path.exists()
        with new_folder(path) as aside:
            (aside / "x").write_text("whole")
        assert names(tmp_path) == ["model"]

    def test_what_a_running_process_or_somebody_else_writes_stays(self, tmp_path: Path) -> None:
        others = [".a.aside-1.txt", ".a.aside-b.txt", ".a-b.aside-999999999.txt", "a-1.txt"]
        for name in others:
            (tmp_path / name).write_text("other")
        write_text("x", tmp_path / "a.txt")
        assert names(tmp_path) == sorted([*others, "a.txt"])


class TestFolder:
    def test_it_is_replaced_as_a_whole(self, tmp_path: Path) -> None:
        for text in ("old", "new"):
            with new_folder(tmp_path / "deep" / "out") as aside:
                (aside / text).write_text(text)
        assert names(tmp_path / "deep") == ["out"]
        assert names(tmp_path / "deep" / "out") == ["new"]

    def test_a_failed_rename_puts_the_old_one_back(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        out = tmp_path / "out"
        with new_folder(out) as aside:
            (aside / "x").write_text("old")
        rename = Path.rename

        def fail(self: Path, target: Path) -> Path:
            if target == out and not self.name.endswith("-old"):
                full()
            return rename(self, target)

        monkeypatch.setattr(Path, "rename", fail)
        with pytest.raises(CheckpointError, match="No space left"), new_folder(out, error=CheckpointError) as aside:
            (aside / "x").write_text("new")
        assert names(tmp_path) == ["out"]
        assert (out / "x").read_text() == "old"

    def test_files_replace_files_and_folders_folders(self, tmp_path: Path) -> None:
        for name in ("a", "b"):
            (tmp_path / name).mkdir()
            (tmp_path / name / name).write_text(name)
            (tmp_path / f"{name}.txt").write_text(name)
        replace_path(tmp_path / "a", tmp_path / "b")
        replace_path(tmp_path / "a.txt", tmp_path / "b.txt")
        assert names(tmp_path) == ["b", "b.txt"]
        assert names(tmp_path / "b") == ["a"]
        assert (tmp_path / "b.txt").read_text() == "a"


class TestSettings:
    def test_the_same_settings_pass_whatever_holds_them(self, tmp_path: Path) -> None:
        settings = {"grammars": ("sites", "full"), "path": tmp_path, "rate": 1e-4}
        write_json({name: str(value) if name == "path" else value for name, value in settings.items()}, tmp_path / "s")
        refuse_other_settings(tmp_path, json.loads((tmp_path / "s").read_text()), settings)

    def test_what_differs_is_named_with_both_values(self) -> None:
        before, now = {"b": 1, "a": [1, 2], "same": None}, {"b": 2, "a": (1, 3), "new": "x"}
        assert setting_differences(before, now) == ["a was [1, 2], is [1, 3]", "b was 1, is 2", "new was None, is x"]
        with pytest.raises(StudyError, match=r"^runs/x: was made with other settings: a was .*; new .* x\. Go\.$"):
            refuse_other_settings("runs/x", before, now, remedy="Go.", error=StudyError)


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"null", b"\xff\xfe", None])
def test_what_is_no_json_object_is_refused_by_name(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"cannot be read \(.+\)\. Remove it\.") as refused:
        read_json(path, error=CheckpointError, remedy="Remove it.")
    assert refused.value.source == str(path)
    write_json({"a": [1]}, path)
    assert read_json(path) == {"a": [1]}
