"""A Hub on the loopback: the part of the Hub's HTTP interface that pushes and loads use, over repositories in memory.

Access is by token; a private repository does not exist for others. Large files (`.safetensors`, `.bin`) go the LFS way.
A `Fault` breaks requests on purpose; `POST /_faults` sets them from another process.
"""

from __future__ import annotations

import base64
import json
import re
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml
from hub_store import Fault, HubError, Repo, blob_id, card_data, entry, is_large, remote_oid, sha256

TOKENS = {"hf_owner": "owner", "hf_guest": "guest"}
"""Token -> user."""


class Hub(ThreadingHTTPServer):
    """The server; `url` is what `HF_ENDPOINT` has to be."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.cdn = f"http://localhost:{self.server_address[1]}"
        self.repos: dict[str, Repo] = {}
        self.objects: dict[str, bytes] = {}
        self.requests: list[tuple[str, str]] = []
        self.faults: list[Fault] = []
        self.lock = threading.RLock()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no news."""

    def fault(self, method: str, path: str) -> Fault | None:
        for fault in self.faults:
            if fault.times and fault.method == method and re.search(fault.pattern, path):
                fault.times -= 1
                return fault
        return None


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, *args: Any) -> None:
        """Silence."""

    def _handle(self) -> None:
        split = urlsplit(self.path)
        path = unquote(split.path)
        self.query = split.query
        if path == "/_faults":
            self.server.faults = [Fault(**fault) for fault in json.loads(self._body())]
            return self._reply(200)
        self.server.requests.append((self.command, path))
        fault = self.server.fault(self.command, path)
        if fault is not None and fault.status == 0:
            self.rfile.read(min(1, int(self.headers.get("Content-Length") or 0)))
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return None
        self.body = self._body()
        try:
            if fault is not None:
                raise HubError(fault.status, message="broken on purpose")
            for method, pattern, action in ROUTES:
                found = re.fullmatch(pattern, path)
                if found and self.command in method.split():
                    with self.server.lock:
                        return action(self, **found.groupdict())
            raise HubError(404, message=f"{self.command} {path} is not served")
        except HubError as error:
            headers = {"X-Error-Message": error.message} | ({"X-Error-Code": error.code} if error.code else {})
            return self._reply(error.status, {"error": error.message}, headers)

    do_GET = do_HEAD = do_POST = do_PUT = _handle  # noqa: N815

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline().strip() or b"0", 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _reply(self, status: int, content: Any = None, headers: dict[str, str] | None = None) -> None:
        data = content if isinstance(content, bytes) else json.dumps({} if content is None else content).encode()
        kind = "application/octet-stream" if isinstance(content, bytes) else "application/json"
        self.send_response(status)
        for name, value in ({"Content-Type": kind, "Content-Length": str(len(data))} | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    # who asks for what

    @property
    def user(self) -> str | None:
        return TOKENS.get(self.headers.get("Authorization", "").removeprefix("Bearer "))

    def _repo(self, name: str, write: bool = False) -> Repo:
        repo = self.server.repos.get(name)
        if repo is None or (repo.private and self.user != name.split("/")[0]):
            raise HubError(404 if self.user else 401, "RepoNotFound", "Repository not found")
        if write and self.user != name.split("/")[0]:
            raise HubError(403 if self.user else 401, message="You cannot write to this repository.")
        return repo

    def _commit(self, repo: Repo, revision: str | None) -> tuple[str, dict[str, bytes]]:
        oid = repo.find(revision or "main")
        if oid is None:
            raise HubError(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return oid, repo.commits[oid]

    # users and repositories

    def whoami(self) -> None:
        if self.user is None:
            raise HubError(401, message="Invalid username or password.")
        auth = {"type": "access_token", "accessToken": {"displayName": "test", "role": "write"}}
        self._reply(200, {"type": "user", "name": self.user, "fullname": self.user, "orgs": [], "auth": auth})

    def create(self) -> None:
        asked = json.loads(self.body)
        owner = asked.get("organization") or self.user
        if self.user is None:
            raise HubError(401, message="Invalid username or password.")
        if owner != self.user:
            raise HubError(403, message=f"You cannot create a repository under {owner}.")
        name = f"{owner}/{asked['name']}"
        if name in self.server.repos:
            return self._reply(409, {"error": "You already created this repo", "url": f"{self.server.url}/{name}"})
        private = bool(asked.get("private")) or asked.get("visibility") == "private"
        repo = self.server.repos[name] = Repo(private)
        repo.commit("main", {".gitattributes": b"*.safetensors filter=lfs\n"}, "initial commit")
        return self._reply(200, {"url": f"{self.server.url}/{name}", "name": name, "id": name})

    def validate_yaml(self) -> None:
        content = json.loads(self.body)["content"]
        try:
            data = card_data({"README.md": content.encode()})
            wrong = [] if isinstance(data, dict) else ["metadata is not a mapping"]
        except yaml.YAMLError as error:
            wrong = [str(error)]
        self._reply(400 if wrong else 200, {"errors": [{"message": text} for text in wrong], "warnings": []})

    def info(self, name: str, revision: str | None = None) -> None:
        repo = self._repo(name)
        oid, files = self._commit(repo, revision)
        card = card_data(files)
        self._reply(200, {
            "_id": name, "id": name, "modelId": name, "sha": oid, "private": repo.private, "disabled": False,
            "gated": False, "tags": card.get("tags") or [], "pipeline_tag": card.get("pipeline_tag"),
            "downloads": 0, "likes": 0, "cardData": card, "siblings": [{"rfilename": path} for path in files],
        })  # fmt: skip

    def tree(self, name: str, revision: str, folder: str | None = None) -> None:
        _, files = self._commit(self._repo(name), revision)
        start = f"{folder.strip('/')}/" if folder and folder.strip("/") else ""
        below = {path: data for path, data in files.items() if path.startswith(start)}
        if not below:
            raise HubError(404, "EntryNotFound", f"{folder} does not exist on {revision}")
        everything = re.search(r"recursive=(true|1)", self.query, re.IGNORECASE)
        folders = {start + path[len(start) :].split("/")[0] for path in below if "/" in path[len(start) :]}
        listed = [entry(path, data) for path, data in below.items() if everything or "/" not in path[len(start) :]]
        self._reply(200, [{"type": "directory", "path": path, "size": 0, "oid": "0" * 40} for path in folders] + listed)

    def paths_info(self, name: str, revision: str) -> None:
        _, files = self._commit(self._repo(name), revision)
        self._reply(200, [entry(path, files[path]) for path in json.loads(self.body)["paths"] if path in files])

    def refs(self, name: str) -> None:
        repo = self._repo(name)
        branches = [{"name": ref, "ref": f"refs/heads/{ref}", "targetCommit": oid} for ref, oid in repo.refs.items()]
        self._reply(200, {"branches": branches, "tags": [], "converts": []})

    def set_ref(self, name: str, ref: str, kind: str) -> None:
        repo, asked = self._repo(name, write=True), json.loads(self.body or b"{}")
        revision, new = (ref, asked["tag"]) if kind == "tag" else (asked.get("startingPoint"), ref)
        if new in repo.refs:
            raise HubError(409, message=f"Reference already exists: {new}")
        repo.refs[new] = self._commit(repo, revision)[0]
        self._reply(201)

    # uploads

    def preupload(self, name: str, revision: str) -> None:
        _, files = self._commit(self._repo(name, write=True), revision)
        asked = [file["path"] for file in json.loads(self.body)["files"]]
        found = [{"path": path, "uploadMode": "lfs" if is_large(path) else "regular"} for path in asked]
        for file in found:
            known = files.get(file["path"])
            file |= {"shouldIgnore": False, "oid": None if known is None else remote_oid(file["path"], known)}
        self._reply(200, {"files": found})

    def lfs_batch(self, name: str) -> None:
        self._repo(name, write=True)
        url = self.server.url
        actions = {"upload": f"{url}/lfs/{{}}", "verify": f"{url}/lfs/{{}}/verify"}
        objects = []
        for asked in json.loads(self.body)["objects"]:
            links = {kind: {"href": link.format(asked["oid"])} for kind, link in actions.items()}
            objects.append(asked | ({} if asked["oid"] in self.server.objects else {"actions": links}))
        self._reply(200, {"transfer": "basic", "objects": objects})

    def lfs_put(self, oid: str) -> None:
        if sha256(self.body) != oid:
            raise HubError(422, message="the content has another checksum")
        self.server.objects[oid] = self.body
        self._reply(200)

    def lfs_verify(self, oid: str) -> None:
        if len(self.server.objects.get(oid, b"")) != json.loads(self.body)["size"]:
            raise HubError(404, message="no such object")
        self._reply(200)

    def add_commit(self, name: str, revision: str) -> None:
        """All operations, or none."""
        repo = self._repo(name, write=True)
        files, message = dict(self._commit(repo, revision)[1]), ""
        for line in self.body.splitlines():
            key, value = (found := json.loads(line))["key"], found["value"]
            if key == "header":
                message = value["summary"]
            elif key == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif key == "lfsFile" and value["oid"] in self.server.objects:
                files[value["path"]] = self.server.objects[value["oid"]]
            elif key == "deletedFile":
                files.pop(value["path"])
            else:
                raise HubError(400, message=f"{key} {value.get('path')} cannot be committed")
        oid = repo.commit(revision, files, message)
        self._reply(200, {"success": True, "commitOid": oid, "commitUrl": f"{self.server.url}/{name}/commit/{oid}"})

    # downloads

    def resolve(self, name: str, revision: str, path: str) -> None:
        oid, files = self._commit(self._repo(name), revision)
        if path not in files:
            raise HubError(404, "EntryNotFound", "Entry not found")
        data = files[path]
        headers = {"X-Repo-Commit": oid, "ETag": f'"{blob_id(data)}"'}
        if not is_large(path):
            return self._send(data, headers)
        self.server.objects[sha256(data)] = data
        linked = {"X-Linked-Size": str(len(data)), "X-Linked-Etag": f'"{sha256(data)}"'}
        return self._reply(302, headers=headers | linked | {"Location": f"{self.server.cdn}/cdn/{sha256(data)}"})

    def cdn(self, oid: str) -> None:
        if "Authorization" in self.headers:
            raise HubError(400, message="a token must not leave the Hub")
        self._send(self.server.objects[oid], {"ETag": f'"{oid}"'})

    def _send(self, data: bytes, headers: dict[str, str]) -> None:
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not wanted:
            return self._reply(200, data, headers)
        first, last = int(wanted[1]), int(wanted[2] or len(data) - 1)
        headers |= {"Content-Range": f"bytes {first}-{last}/{len(data)}"}
        return self._reply(206, data[first : last + 1], headers)


NAME = r"(?P<name>[\w.-]+/[\w.-]+)"
REVISION = r"(?P<revision>[\w.-]+)"
ROUTES: list[tuple[str, str, Callable[..., None]]] = [
    ("GET", r"/api/whoami-v2", Handler.whoami),
    ("POST", r"/api/repos/create", Handler.create),
    ("POST", r"/api/validate-yaml", Handler.validate_yaml),
    ("GET", rf"/api/(?:models|datasets)/{NAME}", Handler.info),
    ("GET", rf"/api/(?:models|datasets)/{NAME}/revision/{REVISION}", Handler.info),
    ("GET", rf"/api/(?:models|datasets)/{NAME}/tree/{REVISION}(?P<folder>/.*)?", Handler.tree),
    ("POST", rf"/api/(?:models|datasets)/{NAME}/paths-info/{REVISION}", Handler.paths_info),
    ("GET", rf"/api/(?:models|datasets)/{NAME}/refs", Handler.refs),
    ("POST", rf"/api/(?:models|datasets)/{NAME}/(?P<kind>branch|tag)/(?P<ref>[\w.-]+)", Handler.set_ref),
    ("POST", rf"/api/(?:models|datasets)/{NAME}/preupload/{REVISION}", Handler.preupload),
    ("POST", rf"/api/(?:models|datasets)/{NAME}/commit/{REVISION}", Handler.add_commit),
    ("POST", rf"/(?:datasets/)?{NAME}\.git/info/lfs/objects/batch", Handler.lfs_batch),
    ("PUT", r"/lfs/(?P<oid>\w+)", Handler.lfs_put),
    ("POST", r"/lfs/(?P<oid>\w+)/verify", Handler.lfs_verify),
    ("GET HEAD", rf"/(?:datasets/)?{NAME}/resolve/{REVISION}/(?P<path>.+)", Handler.resolve),
    ("GET HEAD", r"/cdn/(?P<oid>\w+)", Handler.cdn),
]
