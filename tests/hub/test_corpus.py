"""A corpus on the Hub: pushed with its card, streamed by training, refused with a reason."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from hub_server import Hub

pytest.importorskip("datatrove", reason="building a corpus needs the extra 'corpus'")

ELEMENTS = range(20, 40)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from cloud_hf.corpus import BuildSettings, build_corpus

    folder = tmp_path_factory.mktemp("corpora")
    cube = [4.0, 0, 0, 0, 4.0, 0, 0, 0, 4.0]
    rows = [
        {"id": str(z), "lattice": cube, "numbers": [z, 8], "frac_coords": [0, 0, 0, 0.5, 0.5, 0.5]} for z in ELEMENTS
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    build_corpus([str(folder / "rows.jsonl")], folder / "corpus", BuildSettings(rows=8), timeout=None)
    return folder / "corpus"


@pytest.mark.train
def test_what_is_pushed_is_trained_on(
    hub: Hub, online: Callable[..., dict[str, str]], corpus: Path, tmp_path: Path
) -> None:
    def run(*argv: object, token: str = "hf_owner") -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-W", "ignore", "-m", "cloud_hf", *map(str, argv)]
        variables = os.environ | online(token, tmp_path / "home")
        return subprocess.run(command, env=variables, capture_output=True, text=True, check=False)

    done = run("corpus", "push", corpus, "owner/corpus")
    assert done.returncode == 0, done.stderr[-3000:]
    files = hub.repos["owner/corpus"].files
    assert {"README.md", "corpus.json", "space_groups.png", "lengths.png", "shards/00000.parquet"} <= set(files)
    assert not [name for name in files if name.startswith("work/")]
    assert files["shards/00002.parquet"] == (corpus / "shards" / "00002.parquet").read_bytes()

    tiny = ["--hidden-size", 32, "--num-hidden-layers", 1, "--num-attention-heads", 2, "--max-steps", 3]
    tiny += ["--per-device-train-batch-size", 8, "--use-cpu", "true", "--disable-tqdm", "true"]
    done = run("pretrain", "--corpus", "owner/corpus", *tiny, "--output-dir", tmp_path / "out")
    assert done.returncode == 0, done.stderr[-3000:]
    metrics = json.loads((tmp_path / "out" / "validation_results.json").read_text())
    assert metrics["train_strings"] + metrics["validation_strings"] == len(ELEMENTS)

    done = run("corpus", "push", corpus, "other/corpus", token="hf_guest")
    assert done.returncode == 2
    assert "cannot be pushed" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_data_set_on_the_hub_is_an_input(hub: Hub, online: Callable[..., dict[str, str]], corpus: Path) -> None:
    def run(*argv: object) -> subprocess.CompletedProcess[str]:
        variables = os.environ | online("hf_owner", corpus.parent / "home")
        command = [sys.executable, "-W", "ignore", *map(str, argv)]
        return subprocess.run(command, env=variables, capture_output=True, text=True, check=False)

    push = (
        "from huggingface_hub import HfApi; api = HfApi(); api.create_repo('owner/rows', repo_type='dataset'); "
        f"api.upload_file(path_or_fileobj={str(corpus.parent / 'rows.jsonl')!r}, path_in_repo='rows.jsonl', "
        "repo_id='owner/rows', repo_type='dataset')"
    )
    assert run("-c", push).returncode == 0
    build = ("-m", "cloud_hf", "corpus", "build")
    done = run(*build, "hf://owner/rows", "-o", corpus.parent / "from_hub", "--rows", 8)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.startswith("20 rows in = 20 rows out + 0 duplicates + 0 quarantined\n")
    shards = sorted((corpus / "shards").iterdir())
    for shard in shards:
        one, two = pd.read_parquet(shard), pd.read_parquet(corpus.parent / "from_hub" / "shards" / shard.name)
        assert two["source"].str.startswith("hf://owner/rows:").all()
        pd.testing.assert_frame_equal(one.drop(columns="source"), two.drop(columns="source"))
    done = run(*build, "hf://owner/absent", "-o", corpus.parent / "nothing")
    assert done.returncode == 2
    assert "hf://owner/absent: the data set cannot be loaded" in done.stderr
