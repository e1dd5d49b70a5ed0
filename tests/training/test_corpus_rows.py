"""`cloud-hf pretrain --corpus`: streamed, left out what is to be left out, resumed exactly."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig

pytest.importorskip("datatrove", reason="building a corpus needs the extra 'corpus'")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 crystals in 6 shards."""
    from cloud_hf.corpus import BuildSettings, build_corpus

    folder = tmp_path_factory.mktemp("corpora")
    cube = [4.0, 0, 0, 0, 4.0, 0, 0, 0, 4.0]
    rows = [
        {"id": f"{a}-{b}", "lattice": cube, "numbers": [a, b], "frac_coords": [0, 0, 0, 0.5, 0.5, 0.5]}
        for a in range(20, 30)
        for b in (7, 8, 9, 15, 16, 17)
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    build_corpus([str(folder / "rows.jsonl")], folder / "corpus", BuildSettings(rows=10), timeout=None)
    return folder / "corpus"


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


@pytest.mark.parametrize(
    "sampling", [pytest.param([], marks=pytest.mark.train), ["--packing", "true", "--packing-length", "64"]]
)
def test_a_resumed_run_ends_where_the_uninterrupted_one_does(
    corpus: Path, tiny_flags, cloud, tmp_path: Path, sampling: list[str]
) -> None:
    """Interrupted inside the second epoch, in the middle of a shard."""
    flags = ["--corpus", corpus, "--validation-fraction", "0.1", *tiny_flags, "--max-steps", 12, *sampling]
    flags += ["--save-strategy", "steps", "--save-steps", 8, "--warmup-steps", 0, "--per-device-train-batch-size", "6"]
    found = cloud("pretrain", *flags, "--output-dir", tmp_path / "whole")
    assert found.status == 0, found.err
    shutil.copytree(tmp_path / "whole" / "checkpoint-8", tmp_path / "resumed" / "checkpoint-8")
    assert (
        cloud("pretrain", *flags, "--output-dir", tmp_path / "resumed", "--resume-from-checkpoint", "true").status == 0
    )
    one, two = weights(tmp_path / "whole"), weights(tmp_path / "resumed")
    assert all(torch.equal(one[name], two[name]) for name in one)
    other = cloud("pretrain", *flags, "--output-dir", tmp_path / "other", "--seed", 4)
    assert other.status == 0
    key = "bert.embeddings.word_embeddings.weight"
    assert not torch.equal(one[key], weights(tmp_path / "other")[key])


def test_the_model_knows_its_strings_and_what_was_left_out(corpus: Path, tiny_flags, cloud, tmp_path: Path) -> None:
    hashes = pd.concat([pd.read_parquet(path) for path in sorted(corpus.glob("shards/*"))])["hash"]
    hashes[:20].to_frame().to_parquet(tmp_path / "exclude.parquet")
    flags = ["--corpus", corpus, *tiny_flags, "--max-steps", 1, "--validation-fraction", "0.2"]
    argv = [*flags, "--exclude", tmp_path / "exclude.parquet", "--grammar", "full"]
    found = cloud("pretrain", *argv, "--output-dir", tmp_path / "out")
    assert found.status == 0, found.err
    metrics = json.loads((tmp_path / "out" / "validation_results.json").read_text())
    assert metrics["train_strings"] + metrics["validation_strings"] == 40
    config = AutoConfig.from_pretrained(tmp_path / "out")
    assert config.grammar == "full"
    assert config.canonical
    assert config.encoder_settings.startswith("full, canonical, spglib")
    step = json.loads((tmp_path / "out" / "training_data.json").read_text())["steps"][0]
    assert step["data"] == [corpus.name]
    assert cloud("pretrain", *flags, "--model", tmp_path / "out", "--output-dir", tmp_path / "more").status == 0
    assert AutoConfig.from_pretrained(tmp_path / "more").grammar == "full"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "either --data TABLE ... or --corpus FOLDER"),
        (["--data", "a.csv", "--exclude", "b.csv"], "--exclude leaves out rows of a --corpus"),
        (["--corpus", "absent"], "neither a folder nor a corpus on the Hub"),
        (["--corpus", "CORPUS", "--exclude", "absent.csv"], "there is no such file"),
        (["--corpus", "CORPUS", "--max-position-embeddings", "5"], "60 too long"),
    ],
)
def test_what_cannot_be_trained_on(
    flags: list[str], message: str, corpus: Path, tiny_flags, cloud, tmp_path: Path
) -> None:
    flags = [str(corpus) if word == "CORPUS" else word for word in flags]
    found = cloud("pretrain", *flags, *tiny_flags, "--max-steps", 1, "--output-dir", tmp_path / "out")
    assert found.status == 2
    assert message in found.err
