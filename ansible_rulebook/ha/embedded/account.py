"""The account that the server runs under when we are root."""

import contextlib
import subprocess
from typing import NamedTuple

from .errors import EmbeddedError

# PostgreSQL refuses to run as root; this account has no rights of its own.
SERVICE_ACCOUNT = "pgserver"


class Account(NamedTuple):
    """A system account, by its numbers."""

    uid: int
    gid: int


def service_account() -> Account:
    """Return the account, made if it is missing.

    Raises:
        EmbeddedError: it is missing, and cannot be made.
    """
    import pwd  # not on every platform, and needed by root alone

    try:
        entry = pwd.getpwnam(SERVICE_ACCOUNT)
    except KeyError:
        command = [
            "useradd", "--system", "--user-group", "--no-create-home",
            "--shell", "/usr/sbin/nologin", SERVICE_ACCOUNT,
        ]  # fmt: skip
        try:
            subprocess.run(command, check=True, capture_output=True, text=True)
        except (OSError, subprocess.CalledProcessError) as error:
            # Somebody else may have created it at the same moment.
            with contextlib.suppress(KeyError):
                entry = pwd.getpwnam(SERVICE_ACCOUNT)
                return Account(entry.pw_uid, entry.pw_gid)
            reason = getattr(error, "stderr", None) or error
            raise EmbeddedError(
                f"PostgreSQL does not run as root, and the account "
                f"{SERVICE_ACCOUNT} cannot be created: {str(reason).strip()}"
            ) from None
        entry = pwd.getpwnam(SERVICE_ACCOUNT)
    return Account(entry.pw_uid, entry.pw_gid)
