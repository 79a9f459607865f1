"""A certificate authority of the rig's own."""

from __future__ import annotations

import datetime
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

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
DAY = datetime.timedelta(days=1)


class Authority:
    """One that signs for "localhost" and 127.0.0.1.

    :param folder: where its certificate and what it signs are; exists.
    :param is_strict: whether it has what Python asks for from 3.13 on. The
        authorities of many Kubernetes clusters do not.
    """

    def __init__(
        self, folder: Path, name: str = "ca", *, is_strict: bool = True
    ) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = name
        self._is_strict = is_strict
        self.file = folder / f"{name}.pem"
        self.file.write_bytes(self._make(name, self._key, True))

    def sign(
        self, name: str, password: bytes = b"", into: Path | None = None
    ) -> tuple[str, str]:
        """The files of a certificate and its key; they are replaced.

        :param into: the folder where they are to be, if not its own.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._make(name, key, False)
        secret = key.private_bytes(
            Encoding.PEM,
            PrivateFormat.PKCS8,
            BestAvailableEncryption(password) if password else NoEncryption(),
        )
        found = []
        for kind, content in (("crt", certificate), ("key", secret)):
            path = (into or self._folder) / f"{name}.{kind}"
            draft = path.with_suffix(".draft")
            draft.write_bytes(content)
            draft.chmod(0o600)  # a server refuses a key that others can read
            draft.replace(path)
            found.append(str(path))
        return found[0], found[1]

    def _make(
        self, name: str, key: ec.EllipticCurvePrivateKey, is_authority: bool
    ) -> bytes:
        now = datetime.datetime.now(datetime.timezone.utc)
        made = (
            x509.CertificateBuilder()
            .subject_name(_called(name))
            .issuer_name(_called(self._name))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - DAY)
            .not_valid_after(now + DAY)
            .add_extension(
                x509.BasicConstraints(is_authority, None), critical=True
            )
            .add_extension(
                x509.SubjectAlternativeName(
                    [
                        x509.DNSName("localhost"),
                        x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
                    ]
                ),
                critical=False,
            )
        )
        if self._is_strict:
            own, above = key.public_key(), self._key.public_key()
            made = made.add_extension(
                x509.SubjectKeyIdentifier.from_public_key(own), critical=False
            ).add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(above),
                critical=False,
            )
        if self._is_strict and is_authority:
            may = dict.fromkeys(KEY_USAGES, False)
            may["key_cert_sign"] = True
            made = made.add_extension(x509.KeyUsage(**may), critical=True)
        return made.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM)


def _called(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])
