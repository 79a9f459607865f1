"""As much of the API of Kubernetes as a leader's label needs."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
from contextlib import suppress
from typing import Any, NamedTuple

import aiohttp

from ..errors import HaError
from ..redaction import clean, one_line
from .pod import AUTHORITY, Pod, read_token

WITHIN = 5.0  # seconds for one call
CHANGED = (404, 409)  # no such pod; another change came before
MOST_BYTES = 4 * 1024 * 1024  # of one answer
# Whose leader the label was set for. Another application, or another cluster
# in the same namespace, may use the same label: those pods are not ours.
CLUSTER = "ansible-rulebook-ha/cluster"


class ApiFailed(HaError):
    """The API server was not reached, or did not do what it was asked.

    Whether it has done it is not known.
    """


class PodChanged(ApiFailed):
    """The pod is another one by now, or gone: look at it again."""


class Labelled(NamedTuple):
    """A pod that has the leader's label of this cluster."""

    name: str
    version: str
    """Of its record in Kubernetes; a change of that is refused if there has
    been another one since."""


class Pods:
    """The pods of a namespace, and their label. Use it as a context.

    Token and certificates are read for each call. Each call ends within
    :data:`WITHIN`.

    :raises ApiFailed: from each call.
    """

    def __init__(self, pod: Pod, ha_uuid: str) -> None:
        self._pod = pod
        self._ha_uuid = ha_uuid
        self._path = f"/api/v1/namespaces/{pod.namespace}/pods"
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=WITHIN),
            headers={"Accept-Encoding": "identity"},  # so bytes are counted
            # A connection that is kept would keep its certificates, too.
            connector=aiohttp.TCPConnector(force_close=True),
        )

    async def __aenter__(self) -> Pods:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._session.close()

    async def set_own(self) -> None:
        """Give this worker's pod the label."""
        await self._patch(self._pod.name, self._pod.value, self._ha_uuid)

    async def clear_own(self) -> None:
        """Take it away. A pod that does not have it stays as it is."""
        await self._patch(self._pod.name, None, None)

    async def clear(self, pod: Labelled) -> None:
        """Take it from another pod.

        :raises PodChanged: if that has changed since, whatever it was.
        """
        await self._patch(pod.name, None, None, pod.version)

    async def labelled(self) -> list[Labelled]:
        """The pods that have the label from a worker of this cluster."""
        answer = await self._call(
            "GET",
            self._path,
            params={"labelSelector": f"{self._pod.key}={self._pod.value}"},
        )
        try:
            records = [each["metadata"] for each in answer["items"]]
            return [
                Labelled(each["name"], each["resourceVersion"])
                for each in records
                if each.get("annotations", {}).get(CLUSTER) == self._ha_uuid
            ]
        except (KeyError, TypeError, AttributeError):
            raise ApiFailed("the answer is no list of pods") from None

    async def _patch(
        self,
        name: str,
        value: str | None,
        cluster: str | None,
        version: str | None = None,
    ) -> None:
        metadata: dict[str, Any] = {
            "labels": {self._pod.key: value},
            "annotations": {CLUSTER: cluster},
        }
        if version is not None:
            metadata["resourceVersion"] = version
        await self._call(
            "PATCH",
            f"{self._path}/{name}",
            data=json.dumps({"metadata": metadata}),
            headers={"Content-Type": "application/merge-patch+json"},
        )

    async def _call(
        self,
        method: str,
        path: str,
        headers: dict[str, str] | None = None,
        **options: Any,
    ) -> Any:
        folder = self._pod.folder
        try:
            allowed = f"Bearer {read_token(folder)}"
            trusted = _trusting(os.path.join(folder, AUTHORITY))
            async with self._session.request(
                method,
                self._pod.server + path,
                headers={**(headers or {}), "Authorization": allowed},
                ssl=trusted,
                allow_redirects=False,  # the token is for this server alone
                **options,
            ) as response:
                body = await _body(response)
                if response.status in CHANGED:
                    raise PodChanged(_refusal(response.status, body))
                if response.status != 200:
                    raise ApiFailed(_refusal(response.status, body))
                return json.loads(body)
        except asyncio.TimeoutError:
            reason = f"no answer within {WITHIN:g} s"
        except (aiohttp.ClientError, OSError, ValueError) as error:
            reason = str(error) or type(error).__name__
        raise ApiFailed(clean(one_line(reason)))


def _trusting(authority: str) -> ssl.SSLContext:
    """Trusts what this authority has signed.

    :param authority: the path of its certificate.
    :raises OSError: if there is no such certificate.
    """
    context = ssl.create_default_context(cafile=authority)
    # Clusters have authorities that lack an extension which nothing in
    # Kubernetes asks for, but Python from 3.13 on does.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


async def _body(response: aiohttp.ClientResponse) -> bytes:
    body = b""
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > MOST_BYTES:
            raise ValueError(f"an answer of more than {MOST_BYTES} bytes")
    return body


def _refusal(status: int, body: bytes) -> str:
    """What the server says, in its own words if they can be read."""
    words = ""
    with suppress(ValueError, TypeError, KeyError):
        words = f": {json.loads(body)['message']}"
    return clean(one_line(f"the API server answered {status}{words}"))
