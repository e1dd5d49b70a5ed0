"""A Hub on the loopback, and what processes need in their environment to know no other."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hub_server import Hub


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    """A running Hub without repositories."""
    server = Hub()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def online(hub: Hub) -> Callable[..., dict[str, str]]:
    """Return a function: token ("" for none) and cache folder to variables of a process that knows only this Hub."""

    def variables(token: str, home: Path | None = None) -> dict[str, str]:
        here = "127.0.0.1,localhost"
        found = {
            "HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1", "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_TOKEN": token, "HF_HUB_DISABLE_PROGRESS_BARS": "1", "NO_PROXY": here, "no_proxy": here,
        }  # fmt: skip
        return found | ({"HF_HOME": str(home), "HF_MODULES_CACHE": str(home / "modules")} if home else {})

    return variables
