"""A server that speaks as much of W&B's protocol as a push needs, and keeps what it was told. It is no W&B server."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

ENTITY = {"id": "1", "name": "me"}
PROJECT = {"id": "1", "internalId": "1", "name": "modelpress", "entity": ENTITY}


class StandIn:
    """``artifacts`` by name and alias, ``runs`` that were completed with exit code, ``used``: (run, artefact)."""

    def __init__(self, status: int = 200) -> None:
        self.status, self.url = status, ""
        self.asked: list[str] = []
        self.runs: dict[str, int] = {}
        self.artifacts: dict[str, dict[str, Any]] = {}
        self.used: list[tuple[str, str]] = []

    def graphql(self, operation: str, given: dict[str, Any]) -> dict[str, Any]:
        """The answer to one operation; an empty one to those that a push does without."""
        self.asked.append(operation)
        answer = getattr(self, f"_{operation}", None)
        return answer(given) if answer else {}

    def _Viewer(self, given: dict[str, Any]) -> dict[str, Any]:
        user = {"id": "1", "entity": "me", "username": "me", "email": "me@example.org", "flags": "{}"}
        return {"viewer": {**user, "teams": {"edges": []}}}

    _GetDefaultEntity = _Viewer

    def _UpsertBucket(self, given: dict[str, Any]) -> dict[str, Any]:
        bucket = {"id": "1", "name": given["name"], "displayName": given["displayName"], "config": given["config"]}
        known = {"description": "", "sweepName": None, "historyLineCount": 0}
        project = {"id": "1", "name": given["project"], "entity": ENTITY}
        return {"upsertBucket": {"bucket": {**bucket, **known, "project": project}, "inserted": True}}

    def _CreateArtifact(self, given: dict[str, Any]) -> dict[str, Any]:
        given = given["input"]
        number = f"artifact-{len(self.artifacts)}"
        for alias in given["aliases"] or []:
            self.artifacts[f"{given['artifactCollectionName']}:{alias['alias']}"] = {**given, "id": number}
        sequence = {"id": "1", "latestArtifact": None}
        return {"createArtifact": {"artifact": {"id": number, "state": "COMMITTED", "artifactSequence": sequence}}}

    def _CreateRunFiles(self, given: dict[str, Any]) -> dict[str, Any]:
        files = [{"name": name, "uploadUrl": f"{self.url}/storage/{name}"} for name in given["files"]]
        return {"createRunFiles": {"runID": "1", "uploadHeaders": [], "files": files}}

    def _Run(self, given: dict[str, Any]) -> dict[str, Any]:
        known = {"config": "{}", "summaryMetrics": "{}", "systemMetrics": "{}", "state": "finished", "tags": []}
        run = {"id": "1", "name": given["name"], "displayName": given["name"], "projectId": "1", **known}
        return {"project": {"run": run if given["name"] in self.runs else None}}

    def _ArtifactMembershipByName(self, given: dict[str, Any]) -> dict[str, Any]:
        found = self.artifacts.get(given["name"])
        return {"project": {"artifactCollectionMembership": membership(found) if found else None}}

    def _UseArtifact(self, given: dict[str, Any]) -> dict[str, Any]:
        (name,) = {one["artifactCollectionName"] for one in self.artifacts.values() if one["id"] == given["artifactID"]}
        self.used.append((given["runName"], name))
        return {"useArtifact": {"artifact": {"id": given["artifactID"]}}}


def membership(found: dict[str, Any]) -> dict[str, Any]:
    """One version of an artefact as W&B's schema spells it."""
    when = "2026-11-22T00:00:00"
    collection = {"__typename": "ArtifactSequence", "name": found["artifactCollectionName"], "project": PROJECT}
    artifact = {
        "__typename": "Artifact",
        "id": found["id"],
        "artifactSequence": collection,
        "versionIndex": 0,
        "artifactType": {"name": found["artifactTypeName"]},
        **{"description": None, "metadata": found["metadata"], "tags": [], "historyStep": None, "updatedAt": None},
        **{"ttlDurationSeconds": -2, "ttlIsInherited": True, "commitHash": None, "fileCount": 1, "size": 2},
        **{"state": "COMMITTED", "digest": found["digest"], "createdAt": when},
    }
    kind = {"__typename": "ArtifactCollectionMembership", "id": "1", "versionIndex": 0, "createdAt": when}
    return {**kind, "aliases": [], "artifactCollection": collection, "artifact": artifact}


@contextmanager
def serving(stand_in: StandIn) -> Iterator[str]:
    """Serve on a free port of this machine; the address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            body = gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body
            answer = json.dumps(self.answer(body)).encode()
            self.send_response(stand_in.status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer)

        do_GET = do_PUT = do_HEAD = do_POST

        def answer(self, body: bytes) -> dict[str, Any]:
            if stand_in.status != 200:
                return {"errors": [{"message": "permission denied"}]}
            if self.path == "/graphql":
                asked = json.loads(body)
                operation = re.search(r"(?:query|mutation)\s+(\w+)", asked["query"])
                assert operation is not None
                return {"data": stand_in.graphql(operation[1], asked.get("variables") or {})}
            if self.path.endswith("/file_stream") and (sent := json.loads(body)).get("complete"):
                stand_in.runs[self.path.split("/")[-2]] = sent["exitcode"]
            return {}

        def log_message(self, *_: Any) -> None:
            """Nothing on stderr."""

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: Any) -> None:
            """wandb drops its connections at the end."""

    server = Server(("127.0.0.1", 0), Handler)
    stand_in.url = f"http://127.0.0.1:{server.server_address[1]}"
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield stand_in.url
    finally:
        server.shutdown()
        server.server_close()
