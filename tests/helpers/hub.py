"""A stand-in for the Hugging Face Hub, on this machine: models, their commits and files, over its HTTP interface.

It serves what `huggingface_hub` asks for when files are fetched and published, without Xet. One token logs in as `me`;
`private` repositories are hidden from who has none, and files of `gated` ones refused to all.
"""

from __future__ import annotations

import base64
import hashlib
import importlib
import json
import re
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_of_the_stand_in"
LFS = (".safetensors", ".onnx")


@dataclass
class Repository:
    """A model: files by name, by commit; commits by branch or tag."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)
    private: bool = False
    gated: bool = False

    def commit(self, files: dict[str, bytes], message: str = "") -> str:
        """Add a commit to main, and return it."""
        known = repr((message, self.refs, {name: _blob(content) for name, content in files.items()}))
        commit = hashlib.sha1(known.encode()).hexdigest()
        self.commits[commit], self.refs["main"] = files, commit
        self.messages.append(message)
        return commit

    def find(self, revision: str) -> str | None:
        return self.refs.get(revision, revision if revision in self.commits else None)

    @property
    def files(self) -> dict[str, bytes]:
        return self.commits[self.refs["main"]]


class Hub(ThreadingHTTPServer):
    """The server.

    Attributes:
        repositories: By `owner/name`.
        requests: Method and path of everything that was asked, in order.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, Repository] = {}
        self.uploads: dict[str, bytes] = {}
        self.requests: list[str] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def environment(self, home: Path) -> dict[str, str]:
        """Return the variables that lead huggingface_hub here, with its files in a folder."""
        return {"HF_ENDPOINT": self.address, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "HF_HUB_OFFLINE": "0"}

    def add(self, name: str, files: dict[str, bytes], **options: bool) -> Repository:
        repository = self.repositories[name] = Repository(**options)
        repository.commit({".gitattributes": b"", "README.md": b"# A card\n", **files})
        return repository


def read_environment() -> None:
    """Let huggingface_hub read its environment again, which it does when something imports it first."""
    import huggingface_hub.constants

    importlib.reload(huggingface_hub.constants)


class _Refused(Exception):
    def __init__(self, status: int, code: str = "", message: str = "") -> None:
        super().__init__(message)
        self.status, self.code = status, code


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._answer()

    do_HEAD = do_POST = do_PUT = do_GET

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.requests.append(f"{self.command} {path}")
        try:
            for pattern, action in ROUTES:
                found = re.fullmatch(pattern, path)
                if found:
                    return action(self, *found.groups())
            raise _Refused(404)
        except _Refused as refused:
            headers = {"X-Error-Code": refused.code, "X-Error-Message": str(refused)}
            self._send(b"{}", {key: value for key, value in headers.items() if value}, refused.status)

    def _send(self, content: bytes, headers: dict[str, str] | None = None, status: int = 200) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _json(self, content: Any, status: int = 200) -> None:
        self._send(json.dumps(content).encode(), {"Content-Type": "application/json"}, status)

    def _logged_in(self) -> bool:
        given = self.headers.get("Authorization")
        if given not in (None, f"Bearer {TOKEN}"):
            raise _Refused(401, message="Invalid credentials in Authorization header")
        return given is not None

    def _repository(self, name: str) -> Repository:
        logged_in = self._logged_in()
        repository = self.server.repositories.get(name)
        if repository is None or (repository.private and not logged_in):
            raise _Refused(404 if logged_in else 401, "RepoNotFound", "Repository not found")
        return repository

    def _commit(self, name: str, revision: str) -> tuple[Repository, str]:
        repository = self._repository(name)
        commit = repository.find(revision)
        if commit is None:
            raise _Refused(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return repository, commit

    def info(self, name: str, revision: str | None) -> None:
        repository, commit = self._commit(name, revision or "main")
        files = [{"rfilename": file} for file in repository.commits[commit]]
        self._json({"id": name, "modelId": name, "sha": commit, "private": repository.private, "siblings": files})

    def tree(self, name: str, revision: str) -> None:
        repository, commit = self._commit(name, revision)
        entries = []
        for file, content in repository.commits[commit].items():
            entry = {"type": "file", "path": file, "size": len(content), "oid": _blob(content)}
            if file.endswith(LFS):
                entry["lfs"] = {"oid": _sha256(content), "size": len(content), "pointerSize": 130}
            entries.append(entry)
        self._json(entries)

    def resolve(self, name: str, revision: str, file: str) -> None:
        repository, commit = self._commit(name, revision)
        if repository.gated:
            raise _Refused(403, "GatedRepo", f"Access to model {name} is restricted")
        content = repository.commits[commit].get(file)
        if content is None:
            raise _Refused(404, "EntryNotFound", "Entry not found")
        headers = {"X-Repo-Commit": commit, "ETag": f'"{_sha256(content) if file.endswith(LFS) else _blob(content)}"'}
        part = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if part:
            first, last = int(part[1]), min(int(part[2] or len(content)), len(content) - 1)
            headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
            return self._send(content[first : last + 1], headers, 206)
        self._send(content, headers)

    def create(self) -> None:
        if not self._logged_in():
            raise _Refused(401, message="Invalid username or password.")
        asked = json.loads(self.body)
        name = f"{asked['organization']}/{asked['name']}"
        if asked["organization"] != "me":
            raise _Refused(403, message="You don't have the rights to create a model under this namespace")
        if name in self.server.repositories:
            return self._json({"url": f"{self.server.address}/{name}", "error": "You already created it"}, 409)
        self.server.repositories[name] = Repository()
        self.server.repositories[name].commit({".gitattributes": b""})
        self._json({"url": f"{self.server.address}/{name}"})

    def validate(self) -> None:
        block = re.match(r"---\n(.*?)\n---\n", json.loads(self.body)["content"], re.DOTALL)
        errors = [] if block else [{"message": "there is no metadata"}]
        self._json({"errors": errors, "warnings": []}, 400 if errors else 200)

    def preupload(self, name: str, revision: str) -> None:
        self._commit(name, revision)
        names = [file["path"] for file in json.loads(self.body)["files"]]
        modes = {name: "lfs" if name.endswith(LFS) else "regular" for name in names}
        self._json(
            {"files": [{"path": n, "uploadMode": m, "shouldIgnore": False, "oid": None} for n, m in modes.items()]}
        )

    def batch(self, name: str) -> None:
        self._repository(name)
        objects = json.loads(self.body)["objects"]
        for one in objects:
            one["actions"] = {"upload": {"href": f"{self.server.address}/lfs/{one['oid']}", "header": {}}}
        self._json({"transfer": "basic", "objects": objects})

    def upload(self, oid: str) -> None:
        if _sha256(self.body) != oid:
            raise _Refused(400, message="not what was announced")
        self.server.uploads[oid] = self.body
        self._send(b"")

    def commit(self, name: str, revision: str) -> None:
        repository, parent = self._commit(name, revision)
        if not self._logged_in():
            raise _Refused(401, message="Invalid username or password.")
        files, message = dict(repository.commits[parent]), ""
        for line in self.body.splitlines():
            entry = json.loads(line)
            key, value = entry["key"], entry["value"]
            if key == "header":
                message = value["summary"]
            elif key == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif key == "lfsFile":
                files[value["path"]] = self.server.uploads[value["oid"]]
            elif key == "deletedFile":
                del files[value["path"]]
        commit = repository.commit(files, message)
        self._json({"success": True, "commitOid": commit, "commitUrl": f"{self.server.address}/{name}/commit/{commit}"})


NAME = r"([^/]+/[^/]+)"
ROUTES = [
    (rf"/api/models/{NAME}(?:/revision/(.+))?", _Handler.info),
    (rf"/api/models/{NAME}/tree/([^/]+)", _Handler.tree),
    (rf"/api/models/{NAME}/preupload/([^/]+)", _Handler.preupload),
    (rf"/api/models/{NAME}/commit/([^/]+)", _Handler.commit),
    (r"/api/repos/create", _Handler.create),
    (r"/api/validate-yaml", _Handler.validate),
    (rf"/{NAME}\.git/info/lfs/objects/batch", _Handler.batch),
    (r"/lfs/(\w+)", _Handler.upload),
    (rf"/{NAME}/resolve/([^/]+)/(.+)", _Handler.resolve),
]


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _blob(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
