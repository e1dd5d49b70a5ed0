"""The guide to fine-tuning works as it is written."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pandas as pd
import pytest

from cloud_hf.training.finetune_arguments import FinetuneArguments
from cloud_hf.training.finetune_heads import head_config
from cloud_hf.training.finetune_rows import Target

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def section() -> str:
    return (ROOT / "docs" / "guides" / "finetune.md").read_text(encoding="utf-8").split("\n## ")[0]


def blocks(section: str, language: str) -> str:
    (found,) = re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)
    return found


def test_its_command_runs_on_its_table(section: str, cloud, pretrained: Path, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "my.csv").write_text(blocks(section, "text"), encoding="utf-8")
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    words = shlex.split(blocks(section, "bash").replace("\\\n", " "))
    assert words[:2] == ["cloud-hf", "finetune"]
    model = words.index("--model") + 1
    assert words[model] == "default"
    words[model] = str(pretrained)  # a tiny one instead
    found = cloud(*words[1:], "--max-steps", 3, "--use-cpu", "true", "--disable-tqdm", "true", "--baselines", "false")
    assert found.status == 0, found.err
    out = tmp_path / "runs" / "my_gap"
    for name in ("metrics.json", "predictions.csv", "parity.png", "run.json", "skipped.csv"):
        assert (out / name).is_file(), name
    assert len(pd.read_csv(out / "predictions.csv")) == 10


def test_the_default_model_is_the_one_inside_the_package() -> None:
    own = FinetuneArguments(model="default", data="my.csv", target=["band_gap:eV"])
    assert (Path(own.checkpoint) / "config.json").is_file()


def test_the_bundled_model_takes_a_new_head() -> None:
    own = FinetuneArguments(model="default", data="my.csv", target=["band_gap:eV"])
    config = head_config(own, [Target("band_gap", "eV")])
    config.validate_architecture()
    assert config.target_names == ["band_gap"]
    assert config.auxiliary_targets is None


def test_every_flag_that_it_names_is_one(section: str) -> None:
    known = set(FinetuneArguments.__dataclass_fields__) | {"num_train_epochs", "output_dir"}
    named = {flag.replace("-", "_") for flag in re.findall(r"--([a-z][\w-]*)", section)}
    assert len(named) > 15
    assert named <= known
