"""Without the mixins, which `make test-common` fetches, nothing here is collected."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import mixins

collect_ignore_glob = [] if mixins.fetched() else ["test_*_common.py"]
if mixins.fetched():
    sys.path.insert(0, str(mixins.CACHE))

OUTCOMES: dict[str, dict[str, str]] = {}


def pytest_configure(config: pytest.Config) -> None:
    """Let pytest know the markers of the mixins."""
    flash = [f"flash_attn_{number}test" for number in ("", "3_", "4_")]
    for name in ("accelerate_tests", "torch_compile_test", *flash):
        config.addinivalue_line("markers", f"{name}: of transformers' mixins")


@pytest.fixture(scope="session")
def outcomes() -> dict[str, dict[str, str]]:
    """Class → test → `passed`, `failed` or `skipped`, of the tests that ran before."""
    return OUTCOMES


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note how each test of the mixins ended."""
    parts = report.nodeid.split("::")
    if len(parts) == 3 and (report.when == "call" or report.outcome == "skipped"):
        OUTCOMES.setdefault(parts[1], {})[parts[2]] = report.outcome
