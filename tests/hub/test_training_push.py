"""What training pushes: model, tokenizer, pipeline, records and card, and nothing that is a pickle."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hub_scripts import TRAIN
from hub_server import Hub
from huggingface_hub import ModelCard

from cloud_hf.checkpoints.cards import is_generated

pytestmark = pytest.mark.train


@pytest.fixture(scope="module")
def trained(
    hub: Hub,
    online: Callable[..., dict[str, str]],
    run_python: Callable[..., Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Any]:
    return run_python(TRAIN, tmp_path_factory.mktemp("trained"), variables=online("hf_owner"))


def card(hub: Hub, name: str) -> str:
    return hub.repos[f"owner/{name}"].files["README.md"].decode()


def test_the_commands_end_well(trained: dict[str, Any]) -> None:
    assert trained["status"] == [0, 0]


@pytest.mark.parametrize("name", ["trained_encoder", "trained_gap", "by_hand"])
def test_everything_is_there_and_no_pickle(hub: Hub, trained: dict[str, Any], name: str) -> None:
    files = set(hub.repos[f"owner/{name}"].files)
    assert files >= {"README.md", "config.json", "model.safetensors", "vocab.txt", "tokenizer_config.json"}
    config = json.loads(hub.repos[f"owner/{name}"].files["config.json"])
    assert "pipeline_cloud.py" in files
    assert ("custom_pipelines" in config) is (name != "trained_encoder")
    assert not {path for path in files if Path(path).suffix in (".bin", ".pt", ".pth", ".pkl")}
    assert "training_args.bin" not in trained["files"]


def test_the_last_commit_holds_the_errors(hub: Hub, trained: dict[str, Any]) -> None:
    metrics = json.loads(hub.repos["owner/trained_gap"].files["metrics.json"])
    row = metrics["validation"]["band_gap"]
    text = card(hub, "trained_gap")
    assert is_generated(text)
    shown = re.search(r"\| validation +\| band_gap +\|(.*)\|", text)
    assert shown
    cells = [cell.strip() for cell in shown.group(1).split("|")]
    assert cells[:2] == [str(row["n"]), "eV"]
    assert [float(cell) for cell in cells[2:4]] == pytest.approx(
        [row["mae"], row["baselines"]["mean"]["mae"]], rel=1e-3
    )


def test_the_card_tells_the_data_of_both_steps(hub: Hub, trained: dict[str, Any]) -> None:
    text = card(hub, "trained_gap")
    assert re.search(r"\| pre-training +\| strings.csv +\| 18 +\| not recorded", text)
    assert re.search(r"\| fine-tuning +\| strings.csv +\| 18 +\| not recorded", text)
    assert "Licence of the weights: not recorded." in text
    assert "perplexity" in text
    assert "perplexity" in card(hub, "trained_encoder")


def test_the_metadata_is_that_of_the_hub(hub: Hub, trained: dict[str, Any]) -> None:
    metrics = json.loads(hub.repos["owner/trained_gap"].files["metrics.json"])["validation"]["band_gap"]
    results = ModelCard(card(hub, "trained_gap")).data.eval_results
    found = {result.metric_type: result for result in results}
    assert found["mae"].metric_value == metrics["mae"]
    assert found["mae"].metric_name == f"MAE (eV), N = {metrics['n']}"
    assert found["mad"].metric_value == metrics["mad"]


def test_trainer_takes_the_user_s_words_into_the_card(hub: Hub, trained: dict[str, Any]) -> None:
    data = ModelCard(card(hub, "by_hand")).data
    assert data.license == "mit"
    assert data.datasets == ["owner/gaps"]
    assert "gaps" in data.tags
    assert "Errors of these weights: not recorded." in card(hub, "by_hand")


def test_pushes_during_training_carry_a_card_too(hub: Hub, trained: dict[str, Any]) -> None:
    repo = hub.repos["owner/by_hand"]
    assert any("Training in progress" in message for _, message in repo.log)
    for commit, message in repo.log[1:]:
        assert is_generated(repo.commits[commit]["README.md"].decode()), message


def test_errors_follow_the_weights_and_only_them(hub: Hub, trained: dict[str, Any]) -> None:
    assert hub.repos["owner/again"].files["metrics.json"] == hub.repos["owner/trained_gap"].files["metrics.json"]
    assert re.search(r"\| validation +\| band_gap", card(hub, "again"))
    assert "metrics.json" not in hub.repos["owner/changed"].files
    assert "Errors of these weights: not recorded." in card(hub, "changed")


def test_the_local_folder_has_the_card_and_the_user_s_words_go_along(hub: Hub, trained: dict[str, Any]) -> None:
    assert is_generated(trained["card"])
    assert card(hub, "my_words") == "# My own words\n"
