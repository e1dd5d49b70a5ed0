"""The page as it is served: many at once, sizes, and what is left on the disk."""

from __future__ import annotations

import json
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import gradio_client
import pytest

from cloud_hf.app.page import Shown
from cloud_hf.app.reading import MAX_BYTES
from cloud_hf.app.server import serve
from cloud_hf.errors import CloudError
from cloud_hf.scope import ScopeEncoder

USERS = 10


def files_of(served: Any) -> list[Path]:
    return [path for path in Path(served.folder.name).rglob("*") if path.is_file()]


def test_ten_users_at_once_get_each_their_own_answer(served: Any, examples: list[Path]) -> None:
    paths = examples[:USERS]

    def ask(path: Path) -> list[Any]:
        client = gradio_client.Client(served.url, verbose=False, httpx_kwargs={"timeout": 600})
        return client.predict(gradio_client.handle_file(str(path)), 300.0, api_name="/file")

    with ThreadPoolExecutor(USERS) as users:
        found = list(users.map(ask, paths))
    assert len(found) == USERS
    for path, answer in zip(paths, found, strict=True):
        text = json.dumps(answer)
        assert path.name in text
        assert ScopeEncoder().encode(path) in text
    assert files_of(served) == []


def test_the_same_file_from_several_users_at_once(served: Any, examples: list[Path]) -> None:
    clients = [gradio_client.Client(served.url, verbose=False, httpx_kwargs={"timeout": 600}) for _ in range(3)]

    def ask(client: Any) -> str:
        return json.dumps(client.predict(gradio_client.handle_file(str(examples[0])), 300.0, api_name="/file"))

    with ThreadPoolExecutor(len(clients)) as users:
        found = list(users.map(ask, clients))
    assert all(ScopeEncoder().encode(examples[0]) in text for text in found)
    assert files_of(served) == []


def test_a_bad_file_leaves_nothing_either(served: Any, tmp_path: Path) -> None:
    (tmp_path / "bad.cif").write_text("data_bad\n_cell_length_a nonsense\n")
    client = gradio_client.Client(served.url, verbose=False, httpx_kwargs={"timeout": 600})
    answer = client.predict(gradio_client.handle_file(str(tmp_path / "bad.cif")), 300.0, api_name="/file")
    text = json.dumps(answer)
    assert "bad.cif: " in text
    assert "Traceback" not in text
    assert files_of(served) == []


def test_a_file_over_the_limit_is_refused_by_the_server(served: Any) -> None:
    import httpx

    content = b"x" * (MAX_BYTES + 1)
    response = httpx.post(f"{served.url}gradio_api/upload", files={"files": ("large.cif", content)}, timeout=600)
    assert response.status_code == 413


def test_it_listens_on_this_machine_only(served: Any) -> None:
    assert served.url.startswith("http://127.0.0.1:")
    assert served.page.share is False
    assert served.page.analytics_enabled is False


def test_a_port_that_is_taken(spectral: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(CloudError, match="another --port"):
            serve(port=other.getsockname()[1], model=str(spectral))


def test_the_answer_has_all_its_parts(served: Any) -> None:
    (file,) = (one for one in served.page.config["dependencies"] if one["api_name"] == "file")
    assert len(file["outputs"]) == len(Shown._fields)
