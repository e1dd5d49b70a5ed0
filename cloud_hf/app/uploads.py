"""Uploads: read once, deleted at once, and never another file of this machine."""

import contextlib
import shutil
import threading
import time
from pathlib import Path

from cloud_hf.app.reading import MAX_BYTES, too_large
from cloud_hf.errors import CrystalReadError

__all__ = ["Uploads"]

SECONDS = 300.0
"""Longest time between an upload and its turn; what is left of one after that is deleted."""


class Uploads:
    """The folder in which Gradio puts uploads, each as `SHA-256 of the content/name`.

    Two users who give the same file share its place, and the first to be served deletes it. So contents stay in memory
    for `SECONDS`, and there only.

    Args:
        folder: Nothing else is read or deleted.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self._lock = threading.Lock()
        self._taken: dict[Path, tuple[float, bytes]] = {}

    def take(self, path: Path) -> bytes:
        """Return the content of an upload, which is gone from the disk then.

        Raises:
            CrystalReadError: It is too large, lost, or no upload.
        """
        path = path.resolve()
        if path.parent.parent != self.folder:
            raise CrystalReadError("this is no upload of this page.", source=path.name)
        with self._lock:
            try:
                if path.stat().st_size > MAX_BYTES:
                    raise too_large(path.name)
                content = path.read_bytes()
            except OSError as error:
                if path not in self._taken:
                    raise CrystalReadError("was lost; drop it again.", source=path.name) from error
                return self._taken[path][1]
            finally:
                path.unlink(missing_ok=True)
                with contextlib.suppress(OSError):  # there is none, or another name of the same content lies in it
                    path.parent.rmdir()
            self._taken[path] = time.monotonic(), content
            return content

    def clear(self, seconds: float = SECONDS) -> None:
        """Forget contents, and delete uploads that were broken off, once they are `seconds` old."""
        now, until = time.monotonic(), time.time() - seconds
        with self._lock:
            self._taken = {path: kept for path, kept in self._taken.items() if now - kept[0] < seconds}
            for path in self.folder.iterdir():
                if path.stat().st_mtime <= until:
                    shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
