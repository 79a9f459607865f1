"""A webhook source of one worker, without rules, on a real inbox."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from ansible_rulebook.ha import Inbox
from ansible_rulebook.ha.webhook.arguments import read_webhook_arguments
from ansible_rulebook.ha.webhook.server import WebhookServer

HOST = "127.0.0.1"
LIMIT = 60.0  # seconds for anything, on a busy machine
KEY_USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)


class Hook:
    """One that listens.

    :param port: where.
    :param inbox: where it puts events.
    """

    def __init__(self, port: int, inbox: Inbox) -> None:
        self.port = port
        self.inbox = inbox
        self.url = f"http://{HOST}:{port}/"

    async def taken(self) -> dict[str, Any]:
        """The next event, which is processed then."""
        delivery = await asyncio.wait_for(self.inbox.take(), LIMIT)
        self.inbox.done(delivery)
        return delivery.event


@contextlib.asynccontextmanager
async def hook(dsn: str, ha_uuid: str, **args: Any) -> AsyncIterator[Hook]:
    """One that listens within."""
    given = {"host": HOST, "port": 0, **args}
    arguments = read_webhook_arguments(given, "ha_webhook", {})
    queue = arguments.queue
    async with Inbox(dsn, ha_uuid, queue.inbox, queue.most) as inbox:
        server = WebhookServer(arguments, inbox, "ha_webhook")
        async with server.listening() as port:
            yield Hook(port, inbox)


class Raw:
    """A client that sends what it likes."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.reader = reader
        self.writer = writer

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        """Status, headers in lower case, and body of the next answer."""
        head = await asyncio.wait_for(
            self.reader.readuntil(b"\r\n\r\n"), LIMIT
        )
        first, *lines = head.decode().strip().split("\r\n")
        pairs = (line.split(": ", 1) for line in lines)
        headers = {name.lower(): value for name, value in pairs}
        size = int(headers.get("content-length", "0"))
        body = await asyncio.wait_for(self.reader.readexactly(size), LIMIT)
        return int(first.split()[1]), headers, body

    async def post(self, content: Any) -> None:
        """Send a whole request."""
        body = json.dumps(content).encode()
        self.writer.write(head(len(body)) + body)
        await self.writer.drain()

    async def rest(self) -> bytes:
        """What comes until the server has closed it."""
        found = b""
        with contextlib.suppress(ConnectionError):
            while True:
                more = await asyncio.wait_for(self.reader.read(9999), LIMIT)
                if not more:
                    break
                found += more
        return found

    async def is_ended(self) -> bool:
        """Wait until the server has closed it."""
        await self.rest()
        return True


def head(length: int, *lines: str) -> bytes:
    """The head of a POST."""
    all_lines = (
        "POST /raw HTTP/1.1",
        "Host: eda",
        f"Content-Length: {length}",
        *lines,
    )
    return "\r\n".join(all_lines).encode() + b"\r\n\r\n"


@contextlib.asynccontextmanager
async def raw(port: int) -> AsyncIterator[Raw]:
    """A connection."""
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        yield Raw(reader, writer)
    finally:
        writer.close()


class Authority:
    """A certificate authority, with files of what it has signed."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        from cryptography.hazmat.primitives.asymmetric import ec

        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = name
        self.file = folder / f"{name}.pem"
        self.file.write_bytes(self._make(name, self._key, True))

    def sign(self, name: str, password: bytes = b"") -> tuple[str, str]:
        """The files of a certificate and its key; they are replaced."""
        from cryptography.hazmat.primitives import serialization as files
        from cryptography.hazmat.primitives.asymmetric import ec

        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._make(name, key, False)
        secret = key.private_bytes(
            files.Encoding.PEM,
            files.PrivateFormat.PKCS8,
            files.BestAvailableEncryption(password)
            if password
            else files.NoEncryption(),
        )
        found = []
        for kind, content in (("crt", certificate), ("key", secret)):
            path = self._folder / f"{name}.{kind}"
            draft = path.with_suffix(".draft")
            draft.write_bytes(content)
            draft.replace(path)
            found.append(str(path))
        return found[0], found[1]

    def _make(self, name: str, key: Any, is_authority: bool) -> bytes:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.x509.oid import NameOID

        def called(text: str) -> x509.Name:
            attribute = x509.NameAttribute(NameOID.COMMON_NAME, text)
            return x509.Name([attribute])

        now = datetime.datetime.now(datetime.timezone.utc)
        day = datetime.timedelta(days=1)
        made = (
            x509.CertificateBuilder()
            .subject_name(called(name))
            .issuer_name(called(self._name))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - day)
            .not_valid_after(now + day)
            .add_extension(
                x509.BasicConstraints(is_authority, None), critical=True
            )
            .add_extension(
                x509.SubjectAlternativeName([x509.DNSName("localhost")]),
                critical=False,
            )
        )
        # Python from 3.13 on asks for these.
        own, above = key.public_key(), self._key.public_key()
        made = made.add_extension(
            x509.SubjectKeyIdentifier.from_public_key(own), critical=False
        ).add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(above),
            critical=False,
        )
        if is_authority:
            may = dict.fromkeys(KEY_USAGES, False)
            may["key_cert_sign"] = True
            made = made.add_extension(x509.KeyUsage(**may), critical=True)
        return made.sign(self._key, hashes.SHA256()).public_bytes(
            serialization.Encoding.PEM
        )
