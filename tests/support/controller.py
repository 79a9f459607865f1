"""A small HTTP server that stands in for the automation controller.

It speaks what ``run_job_template`` and ``run_workflow_template`` ask for: a
job begins when it is launched, and runs until the test ends it.
"""

from __future__ import annotations

import json
import re
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

ORGANIZATION = "Default"
KINDS = {"jobs": "job_templates", "workflow_jobs": "workflow_job_templates"}
TYPES = {
    "job_templates": "job_template",
    "workflow_job_templates": "workflow_job_template",
}


@dataclass
class Job:
    """One launch of a template."""

    number: int
    kind: str  # as in its URL: jobs or workflow_jobs
    template: str
    launched_by: str  # the token of who did it
    labels: list[int]
    status: str = "running"
    watched_by: set[str] = field(default_factory=set)

    def shown(self) -> dict[str, Any]:
        """As the controller shows it."""
        return {
            "id": self.number,
            "url": f"/api/v2/{self.kind}/{self.number}/",
            "status": self.status,
            "created": "2024-01-01T00:00:00Z",
            "artifacts": {},
        }


class Controller:
    """Templates and their jobs, served over HTTP on the loopback.

    :param templates: name of each, and its kind, a value of ``KINDS``.
    """

    def __init__(self, templates: dict[str, str]) -> None:
        self._templates = list(templates.items())
        self._labels: list[str] = []
        self._lock = threading.RLock()
        self.jobs: list[Job] = []
        self.answers_launches = threading.Event()
        """Cleared, it launches jobs and says nothing about it."""
        self.answers_launches.set()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever)

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Controller:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.answers_launches.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def end_jobs(self) -> None:
        """All jobs have run."""
        with self._lock:
            for job in self.jobs:
                job.status = "successful"

    # -- what it answers -------------------------------------------------

    def get(
        self, path: str, query: dict[str, str], who: str
    ) -> dict[str, Any] | None:
        """The page at a path, or None if there is none."""
        with self._lock:
            if path == "config":
                return {"version": "4.6.0"}
            if path == "organizations":
                return _page([{"id": 1, "name": ORGANIZATION}])
            if path == "labels":
                return _page(
                    {"id": number, "name": name}
                    for number, name in enumerate(self._labels, 1)
                    if name == query["name"]
                )
            if path == "unified_job_templates":
                return _page(
                    _template(number, name, kind)
                    for number, (name, kind) in enumerate(self._templates, 1)
                    if name == query["name"]
                )
            if path in KINDS:
                return _page(self._watch(path, query["id__in"], who))
            match = re.fullmatch(r"(?:\w*job_templates)/(\d+)/(\w+)", path)
            if match and match[2] in KINDS:
                name, _ = self._templates[int(match[1]) - 1]
                return _page(self._labelled(name, query["labels__name"]))
        return None

    def post(
        self, path: str, body: dict[str, Any], who: str
    ) -> dict[str, Any] | None:
        """What comes of it, or None if there is nothing at that path."""
        if path == "labels":
            with self._lock:
                self._labels.append(body["name"])
                return {"id": len(self._labels), "name": body["name"]}
        match = re.fullmatch(r"(\w*job_templates)/(\d+)/launch", path)
        if match is None:
            return None
        kind = next(jobs for jobs, each in KINDS.items() if each == match[1])
        with self._lock:
            job = Job(
                number=len(self.jobs) + 1,
                kind=kind,
                template=self._templates[int(match[2]) - 1][0],
                launched_by=who,
                labels=body.get("labels", []),
            )
            self.jobs.append(job)
        self.answers_launches.wait()
        return job.shown()

    def _watch(self, kind: str, numbers: str, who: str) -> list[Any]:
        wanted = [int(number) for number in numbers.split(",")]
        found = [
            job
            for job in self.jobs
            if job.kind == kind and job.number in wanted
        ]
        for job in found:
            job.watched_by.add(who)
        return [job.shown() for job in found]

    def _labelled(self, template: str, label: str) -> list[Any]:
        if label not in self._labels:
            return []
        number = self._labels.index(label) + 1
        return [
            job.shown()
            for job in self.jobs
            if job.template == template and number in job.labels
        ]


def _template(number: int, name: str, kind: str) -> dict[str, Any]:
    return {
        "id": number,
        "type": TYPES[kind],
        "name": name,
        "summary_fields": {"organization": {"name": ORGANIZATION}},
        "related": {"launch": f"/api/v2/{kind}/{number}/launch/"},
        "ask_limit_on_launch": True,
        "ask_labels_on_launch": True,
        "ask_inventory_on_launch": True,
        "ask_variables_on_launch": True,
    }


def _page(results: Any) -> dict[str, Any]:
    listed = list(results)
    return {"count": len(listed), "next": None, "results": listed}


def _handler(controller: Controller) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            query = {
                name: values[0]
                for name, values in parse_qs(parts.query).items()
            }
            self._answer(
                200, controller.get(self._place(parts.path), query, self._who)
            )

        def do_POST(self) -> None:
            size = int(self.headers["Content-Length"])
            body = json.loads(self.rfile.read(size))
            self._answer(
                201, controller.post(self._place(self.path), body, self._who)
            )

        @property
        def _who(self) -> str:
            return str(self.headers["Authorization"]).rpartition(" ")[2]

        @staticmethod
        def _place(path: str) -> str:
            return path[len("/api/v2/") :].strip("/")

        def _answer(self, code: int, answer: dict[str, Any] | None) -> None:
            text = json.dumps(answer or {"detail": "Not found."}).encode()
            with suppress(OSError):  # who asked may be dead by now
                self.send_response(404 if answer is None else code)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

        def log_message(self, format: str, *args: Any) -> None:
            """Quiet."""

    return Handler
