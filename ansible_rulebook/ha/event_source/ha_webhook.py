"""Events that are posted over HTTP, and lost with no worker."""

from __future__ import annotations

import asyncio
from typing import Any

from ansible_rulebook.ha.webhook.source import run_webhook

DOCUMENTATION = r"""
---
short_description: Receive events over HTTP, and lose none at a failover.
description:
  - An ansible-rulebook event source plugin of ansible-rulebook-ha. It listens
    on every worker, whether that leads or not. A POST is answered with 202
    when its event is durable in the workers' PostgreSQL. The rules of the
    worker that leads process it, whichever worker fails meanwhile.
  - The events are those of eda.builtin.webhook. The body is under payload,
    the path under meta.endpoint, and the headers are under meta.headers, but
    for those that hold secrets (Authorization, Proxy-Authorization, Cookie,
    X-Gitlab-Token).
  - It needs the HA options of ansible-rulebook.
options:
  host:
    description:
      - The address, or the name of the host, to listen at.
    type: str
    default: "0.0.0.0"
  port:
    description:
      - The TCP port to listen at. Workers on one machine need one each.
    type: int
    required: true
  token:
    description:
      - What a sender has to have in the header "Authorization; Bearer ..." or
        "X-Gitlab-Token".
    type: str
  token_file:
    description:
      - A file with the token. Each line is one that is accepted. It is read
        again when it has changed.
    type: str
  token_env:
    description:
      - The environment variable that has the token.
    type: str
  hmac_secret:
    description:
      - What a sender has to sign the body with, as it is sent.
    type: str
  hmac_secret_file:
    description:
      - A file with the secret, in the way of token_file.
    type: str
  hmac_secret_env:
    description:
      - The environment variable that has the secret.
    type: str
  hmac_algo:
    description:
      - The hash of the signature, by the name that Python's hashlib has for
        it.
    type: str
    default: "sha256"
  hmac_header:
    description:
      - The header with the signature. If it is not given, these are looked
        for, X-Hub-Signature-256, X-Hub-Signature, X-Forgejo-Signature,
        X-Gitea-Signature, Webhook-Signature. The last one is that of Standard
        Webhooks, which signs an id and a time as well.
    type: str
  hmac_format:
    description:
      - How the signature is written.
    type: str
    default: "hex"
    choices: ["hex", "base64"]
  certfile:
    description:
      - A file with the certificate, and those between it and the root. With
        it, TLS is spoken. It is read again when it has changed.
    type: str
  keyfile:
    description:
      - A file with the key, if that is not in certfile.
    type: str
  password:
    description:
      - The password of the key.
    type: str
  password_file:
    description:
      - A file with the password of the key.
    type: str
  password_env:
    description:
      - The environment variable that has the password of the key.
    type: str
  cafile:
    description:
      - A file with the CA certificates that vouch for those of clients. With
        cafile or capath a client has to have a certificate.
    type: str
  capath:
    description:
      - A folder with these certificates, in the way of OpenSSL.
    type: str
  body:
    description:
      - What is posted, JSON or any text. Text becomes a string under
        payload.
    type: str
    default: "json"
    choices: ["json", "raw"]
  max_body:
    description:
      - How many bytes a body may have. A larger one is refused with 413.
    type: int
    default: 1048576
  health_path:
    description:
      - Where GET and HEAD are answered, without any secret, with 200 if this
        worker accepts events.
    type: str
    default: "/"
  idempotency_header:
    description:
      - The header by which a request that is repeated is known. Of those with
        one value, at one path and within 24 hours, the first is accepted, and
        the others are answered as duplicates. If it is not given, these are
        looked for, Idempotency-Key, Webhook-Id, X-GitHub-Delivery,
        X-Gitea-Delivery, X-Forgejo-Delivery, X-Atlassian-Webhook-Identifier.
        With an empty text no request is a duplicate.
    type: str
  repeat_interval:
    description:
      - The shortest repeat_interval, in seconds, of the Alertmanager or
        Grafana that posts here. Of notifications without such a header, that
        are the same and come within half of it, the first is accepted. With 0
        all are.
    type: float
    default: 60
  inbox:
    description:
      - The name of the inbox that events wait in. Each source of a rulebook
        needs a name of its own.
    type: str
    default: ha_webhook
  most:
    description:
      - How many events may wait. If there are more, requests are refused with
        503, and may be repeated.
    type: int
    default: 10000
"""

EXAMPLES = r"""
- ha_webhook:
    port: 5000
    token_file: /etc/eda/webhook.token

- ha_webhook:
    port: 5000
    host: 0.0.0.0
    hmac_secret_env: GITHUB_WEBHOOK_SECRET
    certfile: /etc/eda/tls/tls.crt
    keyfile: /etc/eda/tls/tls.key

- ha_webhook:
    inbox: alerts
    port: 5001
    token: "{{ ALERTMANAGER_TOKEN }}"
    repeat_interval: 3600
"""


async def main(queue: asyncio.Queue[Any], args: dict[str, Any]) -> None:
    """Accept events over HTTP, and feed them to the rules."""
    await run_webhook(queue, args, args.get("ha_inbox"), "ha_webhook")
