"""A stand-in of Kubernetes' API server: pods, their labels, and its refusals.

It speaks what the label of a leader needs, as the real one does: TLS with an
authority of its own, bearer tokens, RBAC, label selectors, merge patches,
versions of records, and errors as ``Status`` objects. A test can take it
away, have it hang, or have it answer with any status.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import ssl
import threading
from pathlib import Path
from typing import Any

from aiohttp import web
from rig.authority import Authority

NAMESPACE = "eda"
PATCHES = {
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
}
LIMIT = 60.0  # seconds
LABEL, VALUE = "eda.example.org/role", "leader"
CLUSTER = "ansible-rulebook-ha/cluster"


class Refused(Exception):
    """Answered as the API server says no."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.body = {
            "kind": "Status",
            "apiVersion": "v1",
            "status": "Failure",
            "reason": reason,
            "message": message,
            "code": code,
        }


class KubernetesApi:
    """The server, in a thread. Use it as a context.

    :param folder: for certificates and service accounts.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.renew_authority()
        self.pods: dict[str, dict[str, Any]] = {}
        self.tokens = {"first-token"}
        self.verbs = {"get", "list", "patch"}
        self.status = 0  # answer with that
        self.hangs = False
        self.requests: list[str] = []
        """Verb and pod of each that was let in."""
        self.most_labelled = 0
        """At one time, since a test has set it to 0."""
        self.port = 0
        self._versions = itertools.count(1000)
        self._loop = asyncio.new_event_loop()
        self._runner: web.AppRunner | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> KubernetesApi:
        self._thread.start()
        self.come_back()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.go_away()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(LIMIT)

    def _run(self) -> None:
        self._loop.run_forever()
        self._loop.close()

    def _do(self, what: Any) -> None:
        asyncio.run_coroutine_threadsafe(what, self._loop).result(LIMIT)

    # -- what a test does ------------------------------------------------

    def add_pod(self, name: str, **labels: str) -> None:
        self.pods[name] = {
            "name": name,
            "namespace": NAMESPACE,
            "labels": {"app": "eda", **labels},
            "annotations": {},
            "resourceVersion": str(next(self._versions)),
        }

    def touch(self, name: str) -> None:
        """Somebody changes the pod: its kubelet, say."""
        self.pods[name]["resourceVersion"] = str(next(self._versions))

    def service_account(
        self, name: str, token: str = "first-token"
    ) -> dict[str, str]:
        """The environment of a pod, and the folder that it names."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        (folder / "token").write_text(f"{token}\n")
        (folder / "namespace").write_text(NAMESPACE)
        (folder / "ca.crt").write_bytes(self.authority.file.read_bytes())
        return {
            "KUBERNETES_SERVICE_HOST": "127.0.0.1",
            "KUBERNETES_SERVICE_PORT": str(self.port),
            "HOSTNAME": name,
            "EDA_HA_SERVICE_ACCOUNT": str(folder),
        }

    def renew_authority(self) -> None:
        """Have another one, that is used after :meth:`come_back`."""
        self.authority = Authority(self.folder, is_strict=False)

    def labelled(self, key: str = LABEL, value: str = VALUE) -> list[str]:
        """The pods that a Service with this selector would have."""
        return [
            name
            for name, pod in self.pods.items()
            if pod["labels"].get(key) == value
        ]

    def go_away(self) -> None:
        """Refuse connections, and end those that are open."""
        self._do(self._stop())

    def come_back(self) -> None:
        """Listen again, at the same port."""
        self._do(self._start())

    # -- the server ------------------------------------------------------

    async def _start(self) -> None:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(
            app, shutdown_timeout=0.1, access_log=None
        )
        await self._runner.setup()
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(*self.authority.sign("kube-apiserver"))
        site = web.TCPSite(
            self._runner, "127.0.0.1", self.port, ssl_context=tls
        )
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def _stop(self) -> None:
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        try:
            if self.hangs:
                await asyncio.sleep(LIMIT)
            if self.status:
                raise Refused(self.status, "Test", "as the test wants it")
            answer = self._serve(request, await request.read())
        except Refused as refused:
            return web.json_response(refused.body, status=refused.code)
        return web.json_response(answer)

    def _serve(self, request: web.Request, body: bytes) -> dict[str, Any]:
        kind, _, token = request.headers.get("Authorization", "").partition(
            " "
        )
        if kind != "Bearer" or token not in self.tokens:
            raise Refused(401, "Unauthorized", "Unauthorized")
        collection = f"/api/v1/namespaces/{NAMESPACE}/pods"
        name = request.path[len(collection) + 1 :]
        if not f"{request.path}/".startswith(f"{collection}/"):
            raise Refused(404, "NotFound", "no such path")
        verb = {"GET": "get" if name else "list", "PATCH": "patch"}.get(
            request.method, request.method
        )
        if verb not in self.verbs:
            raise Refused(
                403, "Forbidden", f'pods "{name}" is forbidden: cannot {verb}'
            )
        self.requests.append(f"{verb} {name}".strip())
        if verb == "list":
            items = self._select(request.query.get("labelSelector", ""))
            return {"kind": "PodList", "items": items}
        if name not in self.pods:
            raise Refused(404, "NotFound", f'pods "{name}" not found')
        if verb == "patch":
            self._patch(name, request.content_type, body)
        return {"kind": "Pod", "metadata": self.pods[name]}

    def _select(self, selector: str) -> list[dict[str, Any]]:
        wanted = [term.split("=", 1) for term in selector.split(",") if term]
        return [
            {"metadata": dict(pod)}
            for pod in self.pods.values()
            if all(pod["labels"].get(key) == value for key, value in wanted)
        ]

    def _patch(self, name: str, kind: str, body: bytes) -> None:
        if kind not in PATCHES:
            raise Refused(415, "UnsupportedMediaType", kind)
        pod, patch = self.pods[name], json.loads(body)["metadata"]
        version = patch.get("resourceVersion", pod["resourceVersion"])
        if version != pod["resourceVersion"]:
            raise Refused(409, "Conflict", "the object has been modified")
        before = json.dumps(pod)
        for part in ("labels", "annotations"):
            for key, value in patch.get(part, {}).items():
                if value is None:
                    pod[part].pop(key, None)
                else:
                    pod[part][key] = value
        if json.dumps(pod) != before:
            self.touch(name)
        self.most_labelled = max(self.most_labelled, len(self.labelled()))
