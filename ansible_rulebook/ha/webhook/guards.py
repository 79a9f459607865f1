"""Who may post: tokens and signatures. Decides only, and tells no secrets."""

from __future__ import annotations

import base64
import binascii
import enum
import hashlib
import hmac
from dataclasses import dataclass
from typing import Callable, Iterable, Iterator, Mapping

BEARER = "bearer"
AUTHORIZATION = "Authorization"
GITLAB_TOKEN = "X-Gitlab-Token"
# Headers that hold a secret: no event has them.
CONFIDENTIAL = frozenset(
    {
        AUTHORIZATION.lower(),
        GITLAB_TOKEN.lower(),
        "proxy-authorization",
        "cookie",
    }
)

# Where GitHub, Bitbucket and Jira, Gitea, and Forgejo have the signature of
# a body. GitHub sends the first two, the second one with an older algorithm.
SIGNATURES = (
    "X-Hub-Signature-256",
    "X-Hub-Signature",
    "X-Forgejo-Signature",
    "X-Gitea-Signature",
)
# The signature of Standard Webhooks, which GitLab uses, too, is made of the
# body and of the other two.
STANDARD = "Webhook-Signature"
STANDARD_ID = "Webhook-Id"
STANDARD_TIME = "Webhook-Timestamp"
STANDARD_PREFIX = b"whsec_"
STANDARD_VERSION = "v1"
TOLERANCE = 300.0  # seconds between the sender's clock and ours

ALGORITHMS = frozenset(each.lower() for each in hashlib.algorithms_available)
ENCODERS: dict[str, Callable[[bytes], bytes]] = {
    "hex": binascii.hexlify,
    "base64": base64.b64encode,
}


class Verdict(enum.Enum):
    """What a guard says of a request."""

    FITS = "fits"
    MISSING = "is missing"
    WRONG = "is wrong"


def check_token(
    headers: Mapping[str, str], tokens: Iterable[bytes]
) -> Verdict:
    """A bearer token, or GitLab's header.

    :param headers: looked up without regard to case.
    """
    given = _bearer(headers.get(AUTHORIZATION, "")) or headers.get(
        GITLAB_TOKEN, ""
    )
    if not given:
        return Verdict.MISSING
    return _verdict(_equal(_bytes(given), each) for each in tokens)


@dataclass(frozen=True)
class Signature:
    """How the body of a request is signed.

    :param header: the one that has the signature; None for any that is known.
    :param algorithm: one that ``hmac`` knows.
    :param encoding: ``hex`` or ``base64``.
    """

    header: str | None = None
    algorithm: str = "sha256"
    encoding: str = "hex"

    def check(
        self,
        headers: Mapping[str, str],
        body: bytes,
        secrets: Iterable[bytes],
        now: float,
    ) -> Verdict:
        """Whether the request was signed with one of the secrets.

        :param headers: looked up without regard to case.
        :param body: as it came.
        :param now: seconds since the epoch.
        """
        for digest in self._digests(headers):
            return _verdict(
                _equal(digest, self._sign(secret, body)) for secret in secrets
            )
        if self.header is None or self.header.lower() == STANDARD.lower():
            return _check_standard(headers, body, secrets, now)
        return Verdict.MISSING

    def _digests(self, headers: Mapping[str, str]) -> Iterator[bytes]:
        """Those that this algorithm made, as the header has them."""
        if self.header is not None and self.header.lower() == STANDARD.lower():
            return
        names = SIGNATURES if self.header is None else (self.header,)
        for name in names:
            text = headers.get(name, "").strip()
            algorithm, _, digest = text.partition("=")
            if not digest or algorithm.lower() not in ALGORITHMS:
                algorithm, digest = self.algorithm, text  # there is no prefix
            if digest and algorithm.lower() == self.algorithm.lower():
                yield _bytes(
                    digest.lower() if self.encoding == "hex" else digest
                )

    def _sign(self, secret: bytes, body: bytes) -> bytes:
        digest = hmac.new(secret, body, self.algorithm).digest()
        return ENCODERS[self.encoding](digest)


def _check_standard(
    headers: Mapping[str, str],
    body: bytes,
    secrets: Iterable[bytes],
    now: float,
) -> Verdict:
    identifier, time, signatures = (
        headers.get(each, "")
        for each in (STANDARD_ID, STANDARD_TIME, STANDARD)
    )
    if not (identifier and time and signatures):
        return Verdict.MISSING
    if not (time.isascii() and time.isdigit() and len(time) < 16):
        return Verdict.WRONG
    if abs(now - int(time)) > TOLERANCE:
        return Verdict.WRONG
    signed = b".".join((_bytes(identifier), _bytes(time), body))
    given = [
        _bytes(digest)
        for version, _, digest in (
            each.partition(",") for each in signatures.split()
        )
        if version == STANDARD_VERSION
    ]
    made = [_sign_standard(each, signed) for each in secrets]
    return _verdict(_equal(one, other) for one in given for other in made)


def _sign_standard(secret: bytes, signed: bytes) -> bytes:
    if secret.startswith(STANDARD_PREFIX):
        encoded = secret[len(STANDARD_PREFIX) :]
        try:
            secret = base64.b64decode(encoded, validate=True)
        except binascii.Error:
            return b"\0"  # equals nothing: it is not the secret of anybody
    return base64.b64encode(hmac.new(secret, signed, "sha256").digest())


def _bearer(header: str) -> str:
    scheme, _, token = header.strip().partition(" ")
    return token.strip() if scheme.lower() == BEARER else ""


def _bytes(text: str) -> bytes:
    """As they came over the line."""
    return text.encode("utf-8", "surrogateescape")


def _equal(one: bytes, other: bytes) -> bool:
    """In a time that tells nothing of where they differ."""
    return hmac.compare_digest(one, other)


def _verdict(comparisons: Iterator[bool]) -> Verdict:
    # All are made, so the time does not tell which secret fits, either.
    return Verdict.FITS if any(list(comparisons)) else Verdict.WRONG
