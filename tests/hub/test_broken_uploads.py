"""Uploads that break half-way: the error says so, the repository and the local files stay as they were."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from hub_scripts import BREAK
from hub_server import Hub

pytestmark = pytest.mark.slow

BROKEN = ("refused weights", "broken weights", "cut weights", "broken commit", "cut commit")


@pytest.fixture(scope="module")
def broken(
    hub: Hub,
    online: Callable[..., dict[str, str]],
    run_python: Callable[..., Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Any]:
    return run_python(BREAK, tmp_path_factory.mktemp("broken"), variables=online("hf_owner"))


@pytest.mark.parametrize("name", BROKEN)
def test_the_error_says_what_became_of_the_repository(broken: dict[str, Any], name: str) -> None:
    found = broken["found"][name]
    assert "The push to owner/broken failed." in found["notes"][0]
    assert "keeps its previous one" in found["notes"][0]
    if name.endswith("weights"):
        assert found["error"] == "RuntimeError: Error while uploading 'model.safetensors' to the Hub."
    else:
        kind = found["error"].partition(":")[0]
        assert kind == ("RemoteProtocolError" if name.startswith("cut") else "HfHubHTTPError")


def test_the_repository_keeps_its_previous_commit(hub: Hub, broken: dict[str, Any]) -> None:
    """The first push and the last, which passed at the third try: nothing of the five in between."""
    repo = hub.repos["owner/broken"]
    assert [message for _, message in repo.log] == ["initial commit", "Upload CloudForDebye", "Upload CloudForDebye"]
    assert broken["found"]["passing"] == repo.log[-1][0]


def test_local_files_stay(broken: dict[str, Any]) -> None:
    assert broken["untouched"]


def test_a_trained_result_survives_a_failed_push(hub: Hub, broken: dict[str, Any]) -> None:
    assert broken["status"] == 2
    assert re.search(r"could not be pushed to owner/run \(.*500 Internal Server Error", broken["message"])
    assert "It is whole in run" in broken["message"]
    assert "`hf upload owner/run run`" in broken["message"]
    assert {"model.safetensors", "config.json", "README.md", "training_data.json"} <= set(broken["files"])
    assert [message for _, message in hub.repos["owner/run"].log] == ["initial commit"]
