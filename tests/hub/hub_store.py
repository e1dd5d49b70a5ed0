"""What a Hub keeps: repositories as commits of files, in memory, and how it describes them."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import Any

import yaml


@dataclass
class Fault:
    """Break the requests of `method` whose path matches `pattern`: a status, or 0 to cut the connection half-way."""

    method: str
    pattern: str
    status: int = 0
    times: int = 1_000_000


@dataclass
class Repo:
    """Commits (oid -> path -> content), and branches and tags that name them."""

    private: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    log: list[tuple[str, str]] = field(default_factory=list)
    refs: dict[str, str] = field(default_factory=dict)

    def commit(self, branch: str, files: dict[str, bytes], message: str) -> str:
        """Add a commit to a branch and return its oid."""
        text = f"{len(self.log)} {message} {sorted((path, blob_id(data)) for path, data in files.items())}"
        oid = hashlib.sha1(text.encode()).hexdigest()
        self.commits[oid], self.refs[branch] = files, oid
        self.log.append((oid, message))
        return oid

    def find(self, revision: str) -> str | None:
        """Return the commit that a branch, tag or oid names."""
        return self.refs.get(revision, revision if revision in self.commits else None)

    @property
    def files(self) -> dict[str, bytes]:
        """Files at the head of `main`."""
        return self.commits[self.refs["main"]]


def is_large(path: str) -> bool:
    return path.endswith((".safetensors", ".bin"))


def blob_id(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def remote_oid(path: str, data: bytes) -> str:
    """What a client compares with its own file, to skip what has not changed."""
    return sha256(data) if is_large(path) else blob_id(data)


def entry(path: str, data: bytes) -> dict[str, Any]:
    """A file as `tree` and `paths-info` list it."""
    found = {"type": "file", "path": path, "size": len(data), "oid": blob_id(data)}
    lfs = {"oid": sha256(data), "size": len(data), "pointerSize": 134}
    return found | ({"lfs": lfs} if is_large(path) else {})


def card_data(files: dict[str, bytes]) -> dict[str, Any]:
    """The metadata at the top of the README, as the Hub reads it."""
    found = re.match(r"---\n(.*?)\n---\n", files.get("README.md", b"").decode(), re.DOTALL)
    return yaml.safe_load(found.group(1)) or {} if found else {}


class HubError(Exception):
    """A refusal, with the Hub's own code in `X-Error-Code`."""

    def __init__(self, status: int, code: str = "", message: str = "") -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message or code
