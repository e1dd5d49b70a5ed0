"""A tiny encoder, pre-trained for a few steps on strings of textbook crystals, for all training tests."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")

TINY = [
    "--hidden-size", "32", "--num-hidden-layers", "2", "--num-attention-heads", "2",
    "--per-device-train-batch-size", "8", "--max-steps", "4",
    "--use-cpu", "true", "--disable-tqdm", "true", "--seed", "3",
]  # fmt: skip
FINETUNE = [
    "--per-device-train-batch-size", "16", "--max-steps", "6", "--learning-rate", "3e-3", "--warmup-steps", "0",
    "--validation-fraction", "0.25", "--baselines", "false", "--use-cpu", "true", "--disable-tqdm", "true",
    "--seed", "1",
]  # fmt: skip
HAND_WRITTEN = [
    f"1 0 0 | {wyckoff} | {composition}"
    for wyckoff in ("1a 2i", "2i", "1a 1h 2i")
    for composition in (
        "Cu 1.0", "Na 0.5 Cl 0.5", "Ti 0.33 O 0.67", "Si 0.33 O 0.67", "Al 0.4 O 0.6", "Fe 0.5 S 0.5",
        "Ca 0.2 C 0.2 O 0.6", "K 0.5 Br 0.5", "Pb 0.5 Te 0.5", "Be 0.5 O 0.5",
    )
]  # fmt: skip


class Finished(NamedTuple):
    """What a run of the command left."""

    status: int
    out: str
    err: str


def run_command(argv: list[str]) -> int:
    """Run `cloud-hf` in this process; the parser's own exit becomes a status."""
    from cloud_hf.cli.main import main

    try:
        return main(argv)
    except SystemExit as stop:
        return int(stop.code or 0)


@pytest.fixture
def cloud(capsys: pytest.CaptureFixture[str]) -> Callable[..., Finished]:
    """Run the command and return its status and what it printed."""

    def run(*argv: object) -> Finished:
        capsys.readouterr()
        status = run_command([str(word) for word in argv])
        return Finished(status, *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def strings(examples: list[Path]) -> list[str]:
    """Strings of the examples and some written by hand, all different."""
    from cloud_hf import ScopeEncoder

    encoder = ScopeEncoder("composition", canonical=False)
    return list(dict.fromkeys([encoder.encode(path) for path in examples] + HAND_WRITTEN))


@pytest.fixture(scope="session")
def strings_table(strings: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("strings") / "strings.csv"
    pd.DataFrame({"scope": strings}).to_csv(path, index=False)
    return path


@pytest.fixture(scope="session")
def tiny_flags() -> list[str]:
    """Flags of a pre-training run that takes a second."""
    return list(TINY)


@pytest.fixture(scope="session")
def pretrained(strings_table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder that `cloud-hf pretrain` wrote."""
    folder = tmp_path_factory.mktemp("pretrained") / "encoder"
    status = run_command(
        ["pretrain", "--data", str(strings_table), "--output-dir", str(folder), "--validation-fraction", "0.1", *TINY]
    )
    assert status == 0
    return folder


@pytest.fixture(scope="session")
def bert_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of another model type, with a tokenizer that would load."""
    from transformers import BertConfig, BertForMaskedLM

    from cloud_hf import ScopeTokenizer

    folder = tmp_path_factory.mktemp("bert") / "bert"
    config = BertConfig(
        vocab_size=585, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64,
    )  # fmt: skip
    BertForMaskedLM(config).save_pretrained(folder)
    ScopeTokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(autouse=True)
def _pictures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes a quarter of a run of a few steps; tests that ask for it (`drawn`) get pictures, others blanks."""
    if "drawn" not in request.fixturenames:
        monkeypatch.setattr("cloud_hf.training.finetune.plot_parity", lambda targets, path: Path(path).touch())


@pytest.fixture
def drawn() -> None:
    """For tests that look at pictures."""


@pytest.fixture(scope="session")
def run_finetune(pretrained: Path) -> Callable[..., Path]:
    """Return a function that runs `cloud-hf finetune` into a folder, once for several tests, and returns the folder."""

    def run(folder: Path, *argv: object) -> Path:
        words = ["finetune", "--model", pretrained, "--output-dir", folder, *FINETUNE, *argv]
        assert run_command([str(word) for word in words]) == 0
        return folder

    return run


@pytest.fixture
def finetune(pretrained: Path, cloud: Callable[..., Finished], tmp_path: Path) -> Callable[..., Finished]:
    """Run `cloud-hf finetune`, by default from the tiny encoder into `tmp_path/out`."""

    def run(*argv: object, model: Path = pretrained, out: str = "out") -> Finished:
        return cloud("finetune", "--model", model, "--output-dir", tmp_path / out, *FINETUNE, *argv)

    return run
