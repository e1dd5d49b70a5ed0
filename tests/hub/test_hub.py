"""Pushes to and loads from a Hub: with and without the package, pinned, offline, private.

Each script runs once, in a process of its own; it collects what happened and the tests look at it one by one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hub_scripts import FETCH, PUBLISH
from hub_server import Hub

from cloud_hf import CloudConfig
from cloud_hf.checkpoints.cards import is_empty, is_generated

MODELS = ("encoder", "masked_lm", "debye", "band_gap", "saved")
QUANTITIES = {"debye": ["debye_temperature", "heat_capacity_per_atom"], "band_gap": ["band_gap"]}


@pytest.fixture(scope="module")
def published(
    hub: Hub,
    online: Callable[..., dict[str, str]],
    root: Path,
    run_python: Callable[..., Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Any]:
    """What was pushed, and what the models gave before."""
    base = tmp_path_factory.mktemp("published")
    done = run_python(PUBLISH, base, root, variables=online("hf_owner"))
    (base / "published.json").write_text(json.dumps(done), encoding="utf-8")
    return done | {"base": base}


@pytest.fixture(
    scope="module",
    params=[pytest.param(f"{word} the package", marks=pytest.mark.slow) for word in ("with", "without")],
)
def fetched(
    request: pytest.FixtureRequest,
    hub: Hub,
    published: dict[str, Any],
    online: Callable[..., dict[str, str]],
    run_python: Callable[..., Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Any]:
    """What a stranger's process gets from the Hub, and then the same process without it, from its cache.

    The quicker form, folders that are read without the package, is in `models/test_remote_code.py`.
    """
    package = request.param == "with the package"
    variables = online("", tmp_path_factory.mktemp("home"))
    word = "yes" if package else "no"
    found = run_python(FETCH, published["base"], word, "yes", package=package, variables=variables)
    before = len(hub.requests)
    variables["HF_HUB_OFFLINE"] = "1"
    offline = run_python(FETCH, published["base"], word, "no", package=package, variables=variables)
    return found | {"offline": offline, "offline_requests": hub.requests[before:], "package": package}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_gives_the_same_outputs(fetched: dict[str, Any], published: dict[str, Any], name: str) -> None:
    found = fetched[name]
    assert "error" not in found, found
    assert found["module"].startswith("cloud_hf." if fetched["package"] else "transformers_modules.")
    assert close(found["outputs"], published["expected"][name])


def test_a_config_is_the_same(fetched: dict[str, Any]) -> None:
    assert fetched["config"]["model_type"] == CloudConfig.model_type
    assert fetched["config"]["hidden_size"] == 32


@pytest.mark.parametrize("name", ["tokenizer", "debye", "fast"])
def test_a_tokenizer_gives_the_same_ids(fetched: dict[str, Any], published: dict[str, Any], name: str) -> None:
    assert fetched[f"{name}_ids"] == published["expected"]["ids"]


def test_a_pipeline_gives_the_same_quantities(fetched: dict[str, Any], published: dict[str, Any]) -> None:
    assert isinstance(fetched["pipeline"], list), fetched["pipeline"]
    for mine, theirs in zip(fetched["pipeline"], published["expected"]["pipeline"], strict=True):
        assert [(q["name"], q["unit"]) for q in mine] == [(q["name"], q["unit"]) for q in theirs]
        assert [q["value"] for q in mine] == pytest.approx([q["value"] for q in theirs], rel=1e-5)


@pytest.mark.parametrize("way", ["pipeline", "trusted", "named"])
@pytest.mark.parametrize("name", QUANTITIES)
def test_a_pushed_model_brings_its_pipeline(fetched: dict[str, Any], name: str, way: str) -> None:
    """Nobody pushed a pipeline here; with trust nobody needs to name the task."""
    found = fetched[f"{name}_{way}"]
    assert isinstance(found, list), found
    assert [[quantity["name"] for quantity in quantities] for quantities in found] == [QUANTITIES[name]] * 2


def test_a_task_that_only_remote_code_tells_needs_trust(fetched: dict[str, Any]) -> None:
    assert "trust_remote_code=True" in fetched["refused_pipeline"]["error"]


@pytest.mark.parametrize("pin", ["old", "tag"])
def test_an_older_revision_gives_the_older_weights(
    fetched: dict[str, Any], published: dict[str, Any], pin: str
) -> None:
    found = fetched[f"pinned_{pin}"]
    assert "error" not in found, found
    assert close(found["outputs"], published["expected"]["pinned_old"])
    assert not close(found["outputs"], published["expected"]["pinned_new"])


def test_code_is_pinned_apart_from_the_weights(fetched: dict[str, Any], published: dict[str, Any]) -> None:
    """The newest commit holds code that does not run, which matters only to those who run its code."""
    assert close(fetched["pinned_new"]["outputs"], published["expected"]["pinned_new"])
    newest = fetched["pinned_newest"]
    if fetched["package"]:
        assert close(newest["outputs"], published["expected"]["pinned_new"])
    else:
        assert "code of the newest commit" in newest["error"]


def test_a_revision_that_is_not_there_is_refused(fetched: dict[str, Any]) -> None:
    assert "0" * 40 in fetched["no_revision"]["error"]


def test_without_the_package_and_without_trust_nothing_runs(fetched: dict[str, Any]) -> None:
    if fetched["package"]:
        pytest.skip("the package needs no trust")
    for what, answer in fetched["refused"].items():
        assert answer != "loaded", what
        assert "trust_remote_code=True" in answer["error"], what


def test_a_private_repository_is_for_its_owner(fetched: dict[str, Any]) -> None:
    assert fetched["private"]["hf_owner"] == "CloudForDebye"
    for stranger in ("hf_guest", "none"):
        assert fetched["private"][stranger]["error"].startswith("OSError: owner/private is not a local folder")


def test_offline_everything_comes_from_the_cache(fetched: dict[str, Any]) -> None:
    assert fetched["offline_requests"] == []
    # offline, AutoTokenizer insists on the config.json that a repository of only a tokenizer does not have
    apart = {"pinned_newest", "no_revision", "refused", "refused_pipeline", "tokenizer_ids", "fast_ids"}
    for name, found in fetched["offline"].items():
        if name not in apart:
            assert "error" not in found, (name, found)
            assert found == fetched[name], name


class TestRepositories:
    def test_nothing_but_what_loading_needs_is_pushed(self, hub: Hub, published: dict[str, Any]) -> None:
        config = {"configuration_cloud.py", "chemistry_tables.py", "saving_cloud.py", "errors.py"}
        # an encoder carries the pipeline too: it may be fine-tuned without the package
        parts = ("modeling", "pretrained", "embeddings", "encoder", "heads", "pipeline", "quantities")
        code = config | {f"{name}_cloud.py" for name in parts}
        code |= {"debye.py", "einstein.py", "conformal.py", "phonon_dos.py", "tokenization_scope.py"}
        tokenizer = {"tokenization_scope.py", "saving_cloud.py", "errors.py", "tokenizer_config.json", "vocab.txt"}
        model = {"config.json", "model.safetensors"} | code
        files = {
            "config": {"config.json"} | config,
            "tokenizer": tokenizer,
            "fast": {"tokenizer.json", "tokenizer_config.json"},
            "encoder": model | tokenizer,
            "masked_lm": model | tokenizer,
            "debye": model | tokenizer,
        }
        for name, expected in files.items():
            assert set(hub.repos[f"owner/{name}"].files) == expected | {".gitattributes", "README.md"}, name

    def test_every_push_carries_a_card(self, hub: Hub, published: dict[str, Any]) -> None:
        for name, repo in hub.repos.items():
            for commit, message in repo.log[1:]:
                card = repo.commits[commit]["README.md"].decode()
                if name == "owner/fast":  # a class of transformers, which writes a card of its own
                    assert is_empty(card)
                elif name != "owner/written":
                    assert is_generated(card), (name, message)
                    assert not is_empty(card), (name, message)

    def test_a_card_by_hand_stays(self, hub: Hub, published: dict[str, Any]) -> None:
        repo = hub.repos["owner/written"]
        assert len(repo.log) == 5
        assert "# A card by hand" in repo.files["README.md"].decode()
        assert "cloud_hf" not in repo.files["README.md"].decode()

    def test_the_card_of_a_model_survives_its_tokenizer(self, hub: Hub, published: dict[str, Any]) -> None:
        card = hub.repos["owner/debye"].files["README.md"].decode()
        assert "| debye_temperature" in card
        assert "- mine" in card, "a tag given to push_to_hub"

    def test_the_bundled_model_carries_its_records(self, hub: Hub, published: dict[str, Any]) -> None:
        files = hub.repos["owner/pipeline"].files
        assert json.loads(files["metrics.json"])["folds"]["heat_capacity"]["n"] > 1000
        assert re.search(r"heat_capacity .*\b\d{4}\b", files["README.md"].decode())

    def test_no_place_on_this_machine_is_told(self, hub: Hub, published: dict[str, Any], root: Path) -> None:
        for name, repo in hub.repos.items():
            for path, data in repo.files.items():
                assert str(root).encode() not in data, (name, path)


def close(mine: Any, theirs: Any) -> bool:
    import torch

    return torch.allclose(torch.tensor(mine), torch.tensor(theirs), rtol=1e-5, atol=1e-5)
