"""Who may post: tokens and signatures of known senders."""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from ansible_rulebook.ha.webhook.guards import (
    ALGORITHMS,
    SIGNATURES,
    TOLERANCE,
    Signature,
    Verdict,
    check_token,
)

BODY = b'{"zen": "Design for failure."}'
NOW = 1_700_000_000.0
STANDARD_SECRET = b"whsec_" + base64.b64encode(b"a key of 24 bytes, or so")
# What may stand in a header, as aiohttp hands it on.
TEXTS = st.text(
    st.characters(exclude_characters="\r\n\0", exclude_categories=["Cs"])
    | st.sampled_from("\udc80\udcff=,. \t")
)
HEADERS = st.dictionaries(
    st.sampled_from(
        [*SIGNATURES, "Webhook-Id", "Webhook-Timestamp", "Webhook-Signature"]
    ),
    TEXTS,
)


def hexed(secret: bytes, body: bytes = BODY, algorithm: str = "sha256") -> str:
    return hmac.new(secret, body, algorithm).hexdigest()


def standard(
    secret: bytes = b"a key of 24 bytes, or so",
    at: float = NOW,
    body: bytes = BODY,
    others: dict[str, str] | None = None,
) -> dict[str, str]:
    """The headers that a sender of Standard Webhooks makes."""
    signed = b"msg_1.%d." % at + body
    digest = base64.b64encode(hmac.new(secret, signed, "sha256").digest())
    return {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(at)),
        "webhook-signature": f"v1,{digest.decode()}",
        **(others or {}),
    }


def check(
    headers: dict[str, str],
    *secrets: bytes,
    body: bytes = BODY,
    now: float = NOW,
    **options: Any,
) -> Verdict:
    return Signature(**options).check(
        CIMultiDict(headers), body, secrets or (b"secret",), now
    )


@pytest.mark.parametrize(
    ("headers", "verdict"),
    [
        ({"Authorization": "Bearer one"}, Verdict.FITS),
        ({"authorization": "bearer   two "}, Verdict.FITS),
        ({"X-Gitlab-Token": "one"}, Verdict.FITS),
        (
            {"Authorization": "Basic b25l", "x-gitlab-token": "one"},
            Verdict.FITS,
        ),
        ({"Authorization": "Bearer onet"}, Verdict.WRONG),
        ({"Authorization": "Bearer on"}, Verdict.WRONG),
        ({"Authorization": "Bearer ONE"}, Verdict.WRONG),
        ({"Authorization": "Bearer one two"}, Verdict.WRONG),
        ({"Authorization": "Bearer \udcff"}, Verdict.WRONG),
        # A bearer token that is wrong is not mended by another header.
        (
            {"Authorization": "Bearer x", "X-Gitlab-Token": "one"},
            Verdict.WRONG,
        ),
        ({"Authorization": "one"}, Verdict.MISSING),
        ({"Authorization": "Bearer "}, Verdict.MISSING),
        ({"Authorization": "Basic one"}, Verdict.MISSING),
        ({}, Verdict.MISSING),
    ],
)
def test_a_token_fits_entirely_or_not(
    headers: dict[str, str], verdict: Verdict
) -> None:
    assert check_token(CIMultiDict(headers), (b"one", b"two")) is verdict


@pytest.mark.parametrize(
    "headers",
    [
        # GitHub: its own example, and both headers that it sends.
        {
            "X-Hub-Signature": "sha1=" + hexed(b"secret", algorithm="sha1"),
            "X-Hub-Signature-256": "sha256=" + hexed(b"secret"),
        },
        {"X-Hub-Signature": "sha256=" + hexed(b"secret")},  # Bitbucket, Jira
        {"X-Gitea-Signature": hexed(b"secret")},
        {"X-Forgejo-Signature": hexed(b"secret").upper()},
        {"x-hub-signature-256": " SHA256=" + hexed(b"secret") + " "},
        standard(b"secret"),
    ],
    ids=lambda headers: next(iter(headers)),
)
def test_the_signatures_of_known_senders_fit(headers: dict[str, str]) -> None:
    assert check(headers) is Verdict.FITS
    assert check(headers, b"other") is Verdict.WRONG
    assert check(headers, body=BODY + b" ") is Verdict.WRONG
    assert check(headers, b"new", b"secret") is Verdict.FITS


def test_the_published_example_of_github_fits() -> None:
    headers = {
        "X-Hub-Signature-256": "sha256=757107ea0eb2509fc211221cce984b8a"
        "37570b6d7586c22c46f4379c8b043e17"
    }
    secret, body = b"It's a Secret to Everybody", b"Hello, World!"
    assert check(headers, secret, body=body) is Verdict.FITS


def test_the_published_example_of_standard_webhooks_fits() -> None:
    headers = {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }
    secret = b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    body = b'{"test": 2432232314}'
    assert check(headers, secret, body=body, now=1614265330) is Verdict.FITS


@pytest.mark.parametrize(
    ("headers", "verdict"),
    [
        ({}, Verdict.MISSING),
        ({"X-Hub-Signature-256": ""}, Verdict.MISSING),
        ({"X-Hub-Signature-256": "sha256="}, Verdict.WRONG),
        # An algorithm that was not asked for proves nothing.
        (
            {"X-Hub-Signature": "sha1=" + hexed(b"secret", algorithm="sha1")},
            Verdict.MISSING,
        ),
        ({"X-Signature": hexed(b"secret")}, Verdict.MISSING),
        ({"X-Hub-Signature-256": "sha256=\udcff"}, Verdict.WRONG),
        ({"Webhook-Signature": "v1,x"}, Verdict.MISSING),
    ],
)
def test_what_is_no_signature_does_not_fit(
    headers: dict[str, str], verdict: Verdict
) -> None:
    assert check(headers) is verdict


def test_a_header_of_ones_own_is_the_only_one_that_counts() -> None:
    options: dict[str, Any] = {
        "header": "X-Mine",
        "algorithm": "sha512",
        "encoding": "base64",
    }
    digest = hmac.new(b"secret", BODY, "sha512").digest()
    mine = {"x-mine": base64.b64encode(digest).decode()}
    assert check(mine, **options) is Verdict.FITS
    mine["x-mine"] = f"sha512={mine['x-mine']}"
    assert check(mine, **options) is Verdict.FITS
    others = {"X-Hub-Signature-256": hexed(b"secret"), **standard(b"secret")}
    assert check(others, **options) is Verdict.MISSING


def test_a_standard_signature_is_of_its_time_and_of_its_id() -> None:
    secret = STANDARD_SECRET
    assert check(standard(), secret) is Verdict.FITS
    for late in (TOLERANCE + 1, -TOLERANCE - 1):
        assert check(standard(), secret, now=NOW + late) is Verdict.WRONG
    assert check(standard(others={"webhook-id": "2"}), secret) is Verdict.WRONG
    later = {"webhook-timestamp": str(int(NOW) + 1)}
    assert check(standard(others=later), secret) is Verdict.WRONG
    for nonsense in ("x", "-1", "1e9", "²", "9" * 5000):
        given = standard(others={"webhook-timestamp": nonsense})
        assert check(given, secret) is Verdict.WRONG
    # One of several fits: the sender changes its secret.
    right = standard()["webhook-signature"]
    for several in (f"v1,x {right}", f"v2,y {right} v1,z"):
        given = standard(others={"webhook-signature": several})
        assert check(given, secret) is Verdict.FITS
    given = standard(others={"webhook-signature": right.replace("v1", "v2")})
    assert check(given, secret) is Verdict.WRONG


def test_a_secret_that_is_no_base64_signs_nothing() -> None:
    assert check(standard(b""), b"whsec_!") is Verdict.WRONG


@given(headers=HEADERS, body=st.binary(), now=st.floats(0, 1e12))
def test_no_header_is_an_error_or_a_way_in(
    headers: dict[str, str], body: bytes, now: float
) -> None:
    verdict = check(headers, body=body, now=now)
    assert verdict is not Verdict.FITS
    check_token(CIMultiDict({"Authorization": "Bearer x", **headers}), (b"t",))


@given(
    secret=st.binary(min_size=1).filter(lambda x: not x.startswith(b"whsec_")),
    body=st.binary(),
    algorithm=st.sampled_from(sorted(hashlib.algorithms_guaranteed)).filter(
        lambda name: "shake" not in name
    ),
    prefixed=st.booleans(),
    encoding=st.sampled_from(["hex", "base64"]),
)
def test_each_signature_that_was_made_fits(
    secret: bytes, body: bytes, algorithm: str, prefixed: bool, encoding: str
) -> None:
    digest = hmac.new(secret, body, algorithm).digest()
    text = digest.hex()
    if encoding == "base64":
        text = base64.b64encode(digest).decode()
    headers = {"X-S": f"{algorithm}={text}" if prefixed else text}
    options: dict[str, Any] = {
        "header": "X-S",
        "algorithm": algorithm,
        "encoding": encoding,
    }
    assert check(headers, secret, body=body, **options) is Verdict.FITS
    assert algorithm in ALGORITHMS
    assert check(headers, secret + b"x", body=body, **options) is Verdict.WRONG
