"""The page as it is served: many at once, sizes, and what is left on the disk."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from cloud_hf.app.page import Shown
from cloud_hf.app.reading import MAX_BYTES
from cloud_hf.app.server import SESSIONS, serve
from cloud_hf.errors import CloudError
from cloud_hf.scope import ScopeEncoder

USERS = 10


@pytest.fixture
def client(served: Any) -> Iterator[httpx.Client]:
    """Asks the page as a browser does; a busy machine may take its time."""
    with httpx.Client(base_url=f"{served.url}gradio_api", timeout=600, verify=False) as made:
        yield made


def upload(client: httpx.Client, name: str, content: bytes) -> httpx.Response:
    return client.post("/upload", files={"files": (name, content)})


def ask(client: httpx.Client, path: Path) -> str:
    """Upload a file and return all that the page answers, as JSON."""
    (place,) = upload(client, path.name, path.read_bytes()).json()
    file = {"path": place, "orig_name": path.name, "meta": {"_type": "gradio.FileData"}}
    event = client.post("/call/file", json={"data": [file, 300.0]}).json()["event_id"]
    text = client.get(f"/call/file/{event}").text
    _, done, answer = text.partition("event: complete\ndata: ")  # heartbeats come before it
    assert done, text
    return json.dumps(json.loads(answer.splitlines()[0]))


def files_of(served: Any) -> list[Path]:
    return [path for path in Path(served.folder.name).rglob("*") if path.is_file()]


def test_ten_users_at_once_get_each_their_own_answer(served: Any, client: httpx.Client, examples: list[Path]) -> None:
    paths = examples[:USERS]
    with ThreadPoolExecutor(USERS) as users:
        found = list(users.map(lambda path: ask(client, path), paths))
    assert len(found) == USERS
    for path, answer in zip(paths, found, strict=True):
        assert path.name in answer
        assert ScopeEncoder().encode(path) in answer
    assert files_of(served) == []


def test_the_same_file_from_several_users_at_once(served: Any, client: httpx.Client, examples: list[Path]) -> None:
    with ThreadPoolExecutor(3) as users:
        found = list(users.map(lambda path: ask(client, path), [examples[0]] * 3))
    assert all(ScopeEncoder().encode(examples[0]) in answer for answer in found)
    assert files_of(served) == []


def test_a_bad_file_leaves_nothing_either(served: Any, client: httpx.Client, tmp_path: Path) -> None:
    (tmp_path / "bad.cif").write_text("data_bad\n_cell_length_a nonsense\n")
    answer = ask(client, tmp_path / "bad.cif")
    assert "bad.cif: " in answer
    assert "Traceback" not in answer
    assert files_of(served) == []


def test_a_file_over_the_limit_is_refused_by_the_server(served: Any, client: httpx.Client) -> None:
    assert upload(client, "large.cif", b"x" * (MAX_BYTES + 1)).status_code == 413
    assert files_of(served) == []


def test_it_listens_on_this_machine_only(served: Any) -> None:
    assert served.url.startswith("http://127.0.0.1:")
    assert served.page.share is False
    assert served.page.analytics_enabled is False


def test_memory_holds_only_so_many_sessions(served: Any) -> None:
    """Gradio keeps 10,000 unless told otherwise."""
    assert served.page.app.state_holder.capacity == SESSIONS


def test_open_pages_are_told_of_the_end_in_the_thread_that_serves_them(
    spectral: Path, free_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = serve(port=free_port, model=str(spectral))
    event, threads = page.page.app.stop_event, []
    told = event.set

    def tell() -> None:
        if not event.is_set():  # the first time wakes those that wait, which only their own thread may do
            threads.append(threading.current_thread())
        told()

    monkeypatch.setattr(event, "set", tell)
    page.close()
    assert event.is_set()
    assert len(threads) == 1
    assert threads[0] is not threading.current_thread()
    with pytest.raises(httpx.ConnectError):
        httpx.get(page.url)


def test_a_port_that_is_taken(spectral: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(CloudError, match="another `port`"):
            serve(port=other.getsockname()[1], model=str(spectral))


def test_the_answer_has_all_its_parts(served: Any) -> None:
    (file,) = (one for one in served.page.config["dependencies"] if one["api_name"] == "file")
    assert len(file["outputs"]) == len(Shown._fields)
