"""Foreign checkpoints that cannot be read, and folders that are written all at once or not at all."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from cloud_hf.checkpoints.reading import check_output_folder, loading, new_folder, read_config, read_foreign
from cloud_hf.errors import CheckpointError, UnknownWordError

WEIGHTS = {"bert.x": torch.arange(6.0).reshape(2, 3), "bert.y": torch.ones(4)}


class _Attack:
    """Would make a file if it were unpickled the ordinary way."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.path),)


def saved(path: Path, **extras: Any) -> Path:
    torch.save({"model_state_dict": WEIGHTS, **extras}, path)
    return path


class TestLoading:
    def test_errors_of_ours_keep_their_type_and_say_of_what(self) -> None:
        with pytest.raises(UnknownWordError, match=r"^here: no such word$"), loading("here"):
            raise UnknownWordError("no such word")
        with pytest.raises(CheckpointError, match=r"^here: the checkpoint is missing.*no such file"), loading("here"):
            raise OSError("no such file")

    def test_a_configuration_that_cannot_be_used(self, make_config: Any, tmp_path: Path) -> None:
        make_config().save_pretrained(tmp_path)
        fields = json.loads((tmp_path / "config.json").read_text()) | {"theta_scale": -1.0}
        (tmp_path / "config.json").write_text(json.dumps(fields))
        with pytest.raises(CheckpointError, match=r"configuration cannot be used: theta_scale must be positive"):
            read_config(str(tmp_path))


class TestPickles:
    def test_tensors_and_the_numpy_scalars_of_the_normaliser(self, tmp_path: Path) -> None:
        labels = np.array([1.0, 2.0, 4.0])
        path = saved(tmp_path / "model.pth", epoch=3, best_valid_loss=np.inf, mu=np.mean(labels), std=np.std(labels))
        found = read_foreign(str(path))
        assert found.weights.keys() == WEIGHTS.keys()
        assert all(torch.equal(found.weights[name], tensor) for name, tensor in WEIGHTS.items())
        assert (found.extras["mu"], found.extras["std"]) == (labels.mean(), labels.std())

    @pytest.mark.parametrize("value", [np.float32(2.5), np.array([2.5]), np.array(2.5), 2.5, torch.tensor(2.5)])
    def test_other_kinds_of_scalars(self, value: Any, tmp_path: Path) -> None:
        assert np.asarray(read_foreign(str(saved(tmp_path / "m.pth", mu=value))).extras["mu"]).item() == 2.5

    def test_scalars_as_numpy_1_names_them(self, tmp_path: Path) -> None:
        new = saved(tmp_path / "new.pth", mu=np.float64(2.5))
        changed = 0
        with zipfile.ZipFile(new) as source, zipfile.ZipFile(tmp_path / "old.pth", "w") as target:
            for item in source.infolist():
                content = source.read(item)
                old = content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
                changed += old != content
                target.writestr(item.filename, old)
        assert changed == 1
        assert float(read_foreign(str(tmp_path / "old.pth")).extras["mu"]) == 2.5

    def test_other_objects_are_refused_and_not_run(self, tmp_path: Path) -> None:
        path = saved(tmp_path / "evil.pth", mu=_Attack(tmp_path / "made"))
        with pytest.raises(CheckpointError, match=r"evil\.pth: not read, .*mkdir.*Nothing in it was run"):
            read_foreign(str(path))
        assert not (tmp_path / "made").exists()

    @pytest.mark.parametrize("content", [b"", b"\x80\x02", b"PK\x03\x04 but no archive", b"x" * 1000])
    @pytest.mark.parametrize("suffix", [".pth", ".bin"])
    def test_damaged_files(self, content: bytes, suffix: str, tmp_path: Path) -> None:
        path = tmp_path / f"model{suffix}"
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match="model"):
            read_foreign(str(path))

    def test_truncated_files(self, tmp_path: Path) -> None:
        content = saved(tmp_path / "model.pth", mu=np.float64(1.0)).read_bytes()
        for length in range(1, len(content), len(content) // 12):
            (tmp_path / "cut.pth").write_bytes(content[:length])
            with pytest.raises(CheckpointError, match=r"cut\.pth"):
                read_foreign(str(tmp_path / "cut.pth"))

    @pytest.mark.parametrize("content", [[1, 2], torch.ones(2), {"model_state_dict": [1]}, {"a": 1}, {}, {1: 2}])
    def test_files_without_named_tensors(self, content: Any, tmp_path: Path) -> None:
        torch.save(content, tmp_path / "m.pt")
        with pytest.raises(CheckpointError, match=r"m\.pt: holds"):
            read_foreign(str(tmp_path / "m.pt"))


class TestFolders:
    def test_safetensors_win_over_pickles(self, tmp_path: Path) -> None:
        save_file(WEIGHTS, tmp_path / "model.safetensors")
        torch.save({"other": torch.ones(1)}, tmp_path / "pytorch_model.bin")
        assert read_foreign(str(tmp_path)).weights.keys() == WEIGHTS.keys()

    def test_shards(self, tmp_path: Path) -> None:
        for number, (name, tensor) in enumerate(WEIGHTS.items()):
            save_file({name: tensor}, tmp_path / f"model-{number}.safetensors")
        index = '{"weight_map": {"bert.x": "model-0.safetensors", "bert.y": "model-1.safetensors"}}'
        (tmp_path / "model.safetensors.index.json").write_text(index)
        assert read_foreign(str(tmp_path)).weights.keys() == WEIGHTS.keys()
        (tmp_path / "model-1.safetensors").unlink()
        with pytest.raises(CheckpointError, match="model-1"):
            read_foreign(str(tmp_path))

    def test_without_weights(self, tmp_path: Path) -> None:
        (tmp_path / "config.json").write_text("{}")
        with pytest.raises(CheckpointError, match=r"holds no weights \(model\.safetensors"):
            read_foreign(str(tmp_path))

    def test_with_pth_files_that_one_has_to_choose_from(self, tmp_path: Path) -> None:
        saved(tmp_path / "model_best.pth")
        saved(tmp_path / "model.pth")
        with pytest.raises(CheckpointError, match=r"model\.pth, model_best\.pth"):
            read_foreign(str(tmp_path))

    def test_with_the_checkpoint_one_level_down(self, tmp_path: Path) -> None:
        (tmp_path / "ckpt").mkdir()
        (tmp_path / "ckpt" / "config.json").write_text("{}")
        with pytest.raises(CheckpointError, match="its folders: ckpt"):
            read_foreign(str(tmp_path))

    def test_a_truncated_safetensors_file(self, tmp_path: Path) -> None:
        save_file(WEIGHTS, tmp_path / "model.safetensors")
        content = (tmp_path / "model.safetensors").read_bytes()
        for length in (0, 4, 30, len(content) - 1):
            (tmp_path / "model.safetensors").write_bytes(content[:length])
            with pytest.raises(CheckpointError, match=r"model\.safetensors: .*damaged"):
                read_foreign(str(tmp_path))

    @pytest.mark.parametrize("text", ["", "[1]", "{", "\x00"])
    def test_a_config_that_is_none(self, text: str, tmp_path: Path) -> None:
        save_file(WEIGHTS, tmp_path / "model.safetensors")
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(CheckpointError, match=r"config\.json"):
            read_foreign(str(tmp_path))

    def test_a_config_that_is_missing(self, tmp_path: Path) -> None:
        with pytest.raises(CheckpointError, match=r"no\.yaml"):
            read_foreign(str(saved(tmp_path / "m.pth")), str(tmp_path / "no.yaml"))

    def test_another_kind_of_file(self, tmp_path: Path) -> None:
        (tmp_path / "m.npz").write_bytes(b"PK")
        with pytest.raises(CheckpointError, match=r"m\.npz: weights are a \.safetensors"):
            read_foreign(str(tmp_path / "m.npz"))

    @pytest.mark.parametrize("source", ["absent", "/absent/folder", "./a/b", "a/b.pth", ""])
    def test_nothing_there(self, source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        with pytest.raises(CheckpointError):
            read_foreign(source)


class TestHub:
    @pytest.fixture
    def cache(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A cache in which a repository with a folder `ckpt` lies already."""
        repository = tmp_path / "models--owner--name"
        snapshot = repository / "snapshots" / ("0" * 40)
        (snapshot / "ckpt").mkdir(parents=True)
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text("0" * 40)
        save_file(WEIGHTS, snapshot / "ckpt" / "model.safetensors")
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        return tmp_path

    def test_a_folder_of_a_repository(self, cache: Path) -> None:
        assert read_foreign("owner/name/ckpt").weights.keys() == WEIGHTS.keys()

    def test_a_repository_without_the_folder(self, cache: Path) -> None:
        with pytest.raises(CheckpointError, match="no folder 'other'"):
            read_foreign("owner/name/other")

    def test_a_repository_out_of_reach(self, cache: Path) -> None:
        with pytest.raises(CheckpointError, match="owner/absent: there is no such file or folder here"):
            read_foreign("owner/absent")


class TestOutput:
    def test_a_folder_appears_when_it_is_complete(self, tmp_path: Path) -> None:
        with new_folder(tmp_path / "a" / "b") as folder:
            (folder / "x").write_text("1")
            assert not (tmp_path / "a" / "b").exists()
        assert sorted(path.name for path in (tmp_path / "a").rglob("*")) == ["b", "x"]

    def interrupted(self, folder: Path) -> None:
        (folder / "config.json").write_text("new")
        raise KeyboardInterrupt

    def test_an_error_leaves_what_was_there(self, tmp_path: Path) -> None:
        out = tmp_path / "out"
        out.mkdir()
        (out / "config.json").write_text("old")
        with pytest.raises(KeyboardInterrupt), new_folder(out, overwrite=True) as folder:
            self.interrupted(folder)
        assert [path.name for path in tmp_path.iterdir()] == ["out"]
        assert (out / "config.json").read_text() == "old"

    def test_a_checkpoint_is_replaced_as_a_whole(self, tmp_path: Path) -> None:
        out = tmp_path / "out"
        out.mkdir()
        (out / "config.json").write_text("old")
        (out / "left_over").write_text("old")
        with new_folder(out, overwrite=True) as folder:
            (folder / "config.json").write_text("new")
        assert [path.name for path in tmp_path.rglob("*")] == ["out", "config.json"]
        assert (out / "config.json").read_text() == "new"

    def test_a_failed_rename_puts_the_old_folder_back(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        out = tmp_path / "out"
        out.mkdir()
        (out / "config.json").write_text("old")
        rename = Path.rename

        def fail(self: Path, target: Path) -> Path:
            if target == out and not self.name.endswith("-old"):
                raise OSError(28, "No space left on device")
            return rename(self, target)

        monkeypatch.setattr(Path, "rename", fail)
        with pytest.raises(CheckpointError, match="No space left"), new_folder(out, overwrite=True) as folder:
            (folder / "config.json").write_text("new")
        monkeypatch.undo()
        assert (out / "config.json").read_text() == "old"
        assert [path.name for path in tmp_path.iterdir()] == ["out"]

    def test_what_is_in_the_way_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("x")
        (tmp_path / "full").mkdir()
        (tmp_path / "full" / "thesis.tex").write_text("x")
        for path, overwrite, words in (
            ("file", False, "is a file"),
            ("file/out", False, "not a folder that can be written to"),
            ("file/deep/out", True, "not a folder that can be written to"),
            ("full", False, "not empty"),
            ("full", True, "holds no checkpoint"),
        ):
            with pytest.raises(CheckpointError, match=words):
                check_output_folder(tmp_path / path, overwrite)
        assert (tmp_path / "full" / "thesis.tex").read_text() == "x"
