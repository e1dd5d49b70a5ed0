"""`cloud-hf convert` and `cloud-hf export` from the outside: tables, errors in one line, nothing half written."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cloud_hf.data.tables import read_table


@pytest.fixture(scope="module")
def fine_tuned(published: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fine-tuned file as the paper's code writes it."""
    path = tmp_path_factory.mktemp("paper") / "model_best.pth"
    state = {f"bert.{name}": weight for name, weight in published.bert.state_dict().items()}
    width = published.config.hidden_size
    head = torch.nn.Sequential(
        torch.nn.Dropout(), torch.nn.Linear(width, width), torch.nn.SiLU(), torch.nn.Linear(width, 1)
    )
    state |= {f"Regressor.{name}": weight for name, weight in head.state_dict().items()}
    torch.save({"model_state_dict": state, "epoch": 3, "mu": np.float64(2.0), "std": np.float64(0.5)}, path)
    return path


def test_published_weights_to_predictions(cloud: Any, fine_tuned: Path, examples: list[Path], tmp_path: Path) -> None:
    done = cloud("convert", fine_tuned, tmp_path / "gap", "--target", "band_gap:eV")
    assert (done.status, done.err) == (0, "")
    for words in ("30,522 -> 585", "parameters", "CloudForPropertyRegression", "2 eV + 0.5 eV x output"):
        assert words in done.out
    done = cloud("predict", "--model", tmp_path / "gap", *examples[:3], "-o", tmp_path / "out.csv")
    assert done.status == 0
    assert read_table(tmp_path / "out.csv")["band_gap (eV)"].notna().all()


def test_the_encoder_s_table_and_what_follows(cloud: Any, published_folder: Path, tmp_path: Path) -> None:
    done = cloud("convert", published_folder, tmp_path / "cloud")
    assert done.status == 0
    assert "CloudForMaskedLM" in done.out
    assert cloud("info", "--model", tmp_path / "cloud").status == 0
    done = cloud("export", tmp_path / "cloud", tmp_path / "bert")
    assert done.status == 0
    assert "CloudForMaskedLM -> BertForMaskedLM" in done.out


def test_an_output_is_not_overwritten_unasked(cloud: Any, published_folder: Path, tmp_path: Path) -> None:
    assert cloud("convert", published_folder, tmp_path / "out").status == 0
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    done = cloud("convert", published_folder, tmp_path / "out")
    assert done.status == 2
    assert "--overwrite" in done.err
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()} == before
    assert cloud("convert", published_folder, tmp_path / "out", "--overwrite").status == 0


def test_the_source_is_never_replaced(cloud: Any, published_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(published_folder, tmp_path / "ckpt")
    for command, source in (("convert", folder), ("convert", folder / "model.safetensors"), ("export", folder)):
        done = cloud(command, source, folder, "--overwrite")
        assert done.status == 2
        assert "would be lost" in done.err
    assert (folder / "model.safetensors").read_bytes() == (published_folder / "model.safetensors").read_bytes()


@pytest.mark.parametrize("command", ["convert", "export"])
def test_careless_input_ends_in_one_line(
    cloud: Any, command: str, published_folder: Path, fine_tuned: Path, tmp_path: Path
) -> None:
    empty, cut = tmp_path / "empty", shutil.copytree(published_folder, tmp_path / "cut")
    empty.mkdir()
    content = (cut / "model.safetensors").read_bytes()
    (cut / "model.safetensors").write_bytes(content[: len(content) // 2])
    (tmp_path / "file").write_text("x")
    good = published_folder if command == "convert" else "default"
    for source, output in (
        (empty, "out"), (cut, "out"), (tmp_path / "absent", "out"), (tmp_path / "file", "out"), ("owner/absent", "out"),
        (fine_tuned, "out"), (good, "file"), (good, "file/out"),
    ):  # fmt: skip
        done = cloud(command, source, tmp_path / output)
        assert done.status == 2, (source, output)
        assert done.err.startswith("cloud-hf: error: ")
        assert len(done.err.splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cut", "empty", "file"]


@pytest.mark.parametrize("command", ["predict", "finetune", "pretrain", "evaluate"])
def test_unconverted_weights_are_refused_with_the_way_out(
    cloud: Any, command: str, published_folder: Path, tmp_path: Path
) -> None:
    table = tmp_path / "t.csv"
    table.write_text("scope,band_gap\n1 0 0 | 2i | Cu 1.0,1.0\n")
    output = ["--output-dir", tmp_path / "out", "--use-cpu", "true"]
    arguments = {
        "predict": ["1 0 0 | 2i | Cu 1.0"],
        "finetune": ["--data", table, "--target", "band_gap:eV", *output],
        "pretrain": ["--data", table, *output],
        "evaluate": ["--head", "band_gap", "--data", table, "--label", "band_gap"],
    }[command]
    done = cloud(command, "--model", published_folder, *arguments)
    assert done.status == 2
    assert "cloud-hf convert" in done.err
