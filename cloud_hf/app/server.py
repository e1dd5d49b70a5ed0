"""Serving the page: on this machine only unless told otherwise, a queue for many users, no word to the outside."""

import asyncio
import os
import socket
import tempfile
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from cloud_hf.app.crystals import Answers
from cloud_hf.app.neighbours import NearestKnown
from cloud_hf.app.reading import MAX_BYTES, Readers
from cloud_hf.app.uploads import SECONDS, Uploads
from cloud_hf.errors import CloudError
from cloud_hf.inference.prediction import load_predictors

__all__ = ["Served", "serve"]

AT_ONCE = 4
"""Requests that are worked on at a time; each reader process serves one."""

MOST_WAITING = 100
"""Requests that may wait; the next one is asked to come again."""


SESSIONS = 100
"""Open pages whose crystal and figures stay in memory, some 3 MB each; beyond that the oldest are forgotten."""


class Served:
    """A running page.

    Args:
        page: The Gradio page.
        url: Where it is.
        readers: Processes to end with it.
        folder: Temporary folder to delete with it.
        uploads: What lies in that folder.
        loop: The event loop in which the page is served, in a thread of its own.
    """

    def __init__(
        self,
        page: Any,
        url: str,
        readers: Readers,
        folder: "tempfile.TemporaryDirectory[str]",
        uploads: Uploads,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.page, self.url, self._readers, self.folder = page, url, readers, folder
        self._uploads, self._loop = uploads, loop
        self._closed = threading.Event()
        threading.Thread(target=self._sweep, name="sweep", daemon=True).start()

    def _sweep(self) -> None:
        while not self._closed.wait(SECONDS / 5):
            self._uploads.clear()

    def wait(self) -> None:
        """Serve until interrupted."""
        try:
            self.page.block_thread()
        finally:
            self.close()

    def close(self) -> None:
        """Stop, and delete what is left of uploads."""
        self._closed.set()
        if self._loop.is_running():  # Gradio tells open pages from this thread, which an event of asyncio does not bear
            asyncio.run_coroutine_threadsafe(_set(self.page.app.stop_event), self._loop).result()
        self.page.close(verbose=False)
        self._readers.close()
        self.folder.cleanup()


def serve(host: str = "127.0.0.1", port: int = 7860, model: str = "default", root_path: str | None = None) -> Served:
    """Start the page and return while it is being served.

    Args:
        host: Address to listen on; `127.0.0.1` is this machine only, `0.0.0.0` every network that it is in.
        port: Port to listen on.
        model: `default` (all checkpoints inside the package), a checkpoint folder or a Hub id.
        root_path: Path below which a proxy shows the page.

    Raises:
        CheckpointError: No such model.
        CloudError: Gradio is not installed, or the port is taken.
    """
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    try:
        import gradio as gr
    except ImportError as error:
        raise CloudError("The demo page needs Gradio: pip install 'cloud-hf[app]'.") from error
    from cloud_hf.app.page import make_page

    _refuse_taken_port(host, port)
    predictors = load_predictors(model)
    folder = tempfile.TemporaryDirectory(prefix="cloud_hf_app_")
    os.environ["GRADIO_TEMP_DIR"] = folder.name
    readers = Readers(predictors.encoder, min(AT_ONCE, os.cpu_count() or 1))
    uploads = Uploads(Path(folder.name))
    known = NearestKnown.bundled(predictors) if model == "default" else None
    page = make_page(Answers(predictors, readers, known), uploads)
    page.queue(max_size=MOST_WAITING, default_concurrency_limit=AT_ONCE)
    fonts = ["ui-sans-serif", "system-ui", "sans-serif"]  # of the reader's machine, none is fetched
    loops: list[asyncio.AbstractEventLoop] = []

    @asynccontextmanager
    async def note_loop(_: Any) -> AsyncIterator[None]:
        loops.append(asyncio.get_running_loop())
        yield

    _, url, _ = page.launch(
        server_name=host, server_port=port, root_path=root_path, prevent_thread_lock=True, quiet=True, share=False,
        ssr_mode=False, max_file_size=MAX_BYTES, footer_links=[], enable_monitoring=False, pwa=False, mcp_server=False,
        state_session_capacity=SESSIONS, app_kwargs={"lifespan": note_loop},
        theme=gr.themes.Default(font=fonts, font_mono=["ui-monospace", "monospace"]),
        css_paths=Path(__file__).with_name("page.css"),
    )  # fmt: skip
    return Served(page, url, readers, folder, uploads, loops[0])


async def _set(event: asyncio.Event) -> None:
    event.set()


def _refuse_taken_port(host: str, port: int) -> None:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except (OSError, OverflowError) as error:
            reason = f"{host}:{port} cannot be listened on ({error}); choose another `port`."
            raise CloudError(reason, flag="port") from error
