"""`cloud-hf predict --model owner/name`: from the Hub, then from the cache, and refused."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from hub_server import Hub, Repo

from cloud_hf import bundled_model


@pytest.fixture(scope="module")
def repository(hub: Hub) -> Hub:
    """The bundled checkpoint in two repositories, one of them private."""
    files = {path.name: path.read_bytes() for path in Path(bundled_model("heat_capacity")).iterdir() if path.is_file()}
    for name in ("owner/public", "owner/private"):
        hub.repos[name] = Repo(private=name.endswith("private"))
        hub.repos[name].commit("main", files, "first commit")
    return hub


@pytest.fixture(scope="module")
def predict(
    repository: Hub,
    online: Callable[..., dict[str, str]],
    examples: list[Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return a function that runs the command in a fresh process; all share a cache."""
    home = tmp_path_factory.mktemp("home")

    def run(model: str, output: Path, token: str = "", offline: str = "0") -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "cloud_hf", "predict", str(examples[0]), "--model", model, "-o", str(output)]
        variables = os.environ | online(token, home) | {"HF_HUB_OFFLINE": offline}
        return subprocess.run(command, env=variables, capture_output=True, text=True, check=False)

    return run


@pytest.mark.slow
def test_from_the_hub_and_then_without_it(
    repository: Hub, predict: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    tables = []
    for offline in ("0", "1"):
        before = len(repository.requests)
        done = predict("owner/public", tmp_path / f"{offline}.csv", offline=offline)
        assert done.returncode == 0, done.stderr
        assert (len(repository.requests) == before) is (offline == "1")
        tables.append(pd.read_csv(tmp_path / f"{offline}.csv"))
    pd.testing.assert_frame_equal(*tables)
    assert tables[0]["debye_temperature_of_heat_capacity (K)"].between(100, 3000).all()


@pytest.mark.slow
def test_a_private_repository_is_refused_with_a_way_out(
    predict: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    done = predict("owner/private", tmp_path / "refused.csv", token="hf_guest")
    assert done.returncode == 2
    message = done.stderr.strip().splitlines()[-1]
    assert message.startswith("cloud-hf: error: owner/private: there is no such repository on http://127.0.0.1:")
    assert "hf auth login" in message
    assert "HF_TOKEN" in message
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_what_is_not_in_the_cache_is_refused_offline(
    repository: Hub, predict: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    before = len(repository.requests)
    done = predict("owner/never_seen", tmp_path / "never.csv", offline="1")
    assert done.returncode == 2
    assert "owner/never_seen: not in the cache, and HF_HUB_OFFLINE is set" in done.stderr
    assert len(repository.requests) == before
