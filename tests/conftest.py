"""What tests share: a PostgreSQL, and everything that is done to it.

The rig is imported when a fixture first needs it, so that unit tests start
without it. Everything that a fixture hands out is ended with the test.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from rig.contender import ContenderProcess
    from rig.pgbouncer import PgBouncer
    from rig.proxy import Proxy
    from rig.server import EmbeddedRig, Server
    from rig.workers import WorkerProcess

# Longest first, so that no process is left with a long one at the end.
ORDER = ("tools/test_chaos.py", "packaging/", "e2e/", "integration/")
HERE = Path(__file__).parent

# How long an example takes says more about the machine than about the code.
settings.register_profile("suite", deadline=None)
settings.load_profile("suite")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=_place)


def _place(item: pytest.Item) -> int:
    for place, beginning in enumerate(ORDER):
        if str(item.path).startswith(str(HERE / beginning)):
            return place
    return len(ORDER)


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """The PostgreSQL that tests share; nobody may stop it."""
    from rig.server import pick_server

    with pick_server() as found:
        yield found


@pytest.fixture
def dsn(server: Server) -> Iterator[str]:
    """A fresh database."""
    made = server.create_database()
    yield made
    server.drop_database(made)


@pytest.fixture
def ha_uuid() -> str:
    return str(uuid.uuid4())


@pytest.fixture(scope="session")
def _controllable() -> Iterator[EmbeddedRig]:
    from rig.server import EmbeddedRig

    with EmbeddedRig() as made:
        yield made


@pytest.fixture
def embedded_server(_controllable: EmbeddedRig) -> Iterator[EmbeddedRig]:
    """A server that the test may stop, start and crash.

    It is another one than `server`, and runs when the test begins. Change
    no settings of it: that is what `embedded_factory` is for.
    """
    _controllable.start()
    yield _controllable


@pytest.fixture
def embedded_factory() -> Iterator[Callable[..., EmbeddedRig]]:
    """Start servers with settings of their own, as EmbeddedRig(...)."""
    from rig.server import EmbeddedRig

    with contextlib.ExitStack() as stack:

        def make(*args: Any, **options: Any) -> EmbeddedRig:
            return stack.enter_context(EmbeddedRig(*args, **options))

        yield make


@pytest.fixture
def standby_of() -> Iterator[Callable[..., EmbeddedRig]]:
    """Start a hot standby of an EmbeddedRig."""
    with contextlib.ExitStack() as stack:

        def make(primary: EmbeddedRig, **options: Any) -> EmbeddedRig:
            return stack.enter_context(primary.make_standby(**options))

        yield make


@pytest.fixture
def proxy() -> Iterator[Callable[..., Proxy]]:
    """Start a proxy before the server of a DSN."""
    from rig.proxy import Proxy

    with contextlib.ExitStack() as stack:

        def make(dsn: str, **options: Any) -> Proxy:
            return stack.enter_context(Proxy.for_dsn(dsn, **options))

        yield make


@pytest.fixture
def pgbouncer() -> Iterator[Callable[..., PgBouncer]]:
    """Start a pgbouncer before the server of a DSN, or skip the test."""
    from rig.pgbouncer import PgBouncer, PgBouncerMissing, find_binary

    try:
        find_binary()
    except PgBouncerMissing as exc:
        pytest.skip(str(exc))
    with contextlib.ExitStack() as stack:

        def make(
            dsn: str, pool_mode: str = "transaction", **settings: Any
        ) -> PgBouncer:
            return stack.enter_context(PgBouncer(dsn, pool_mode, **settings))

        yield make


@pytest.fixture(scope="session")
def quick_variables(
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, str]:
    """With them in its environment, a worker starts in less time."""
    from quick_start import quick_start

    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # which these processes share
    return quick_start(folder)


@pytest.fixture
def worker(
    tmp_path: Path, quick_variables: dict[str, str]
) -> Iterator[Callable[..., WorkerProcess]]:
    """Start workers: worker(rulebook, dsn=..., ha_uuid=..., ...).

    They are named worker-1, worker-2 and so on, also as worker ids.
    """
    from rig.workers import WorkerProcess

    with contextlib.ExitStack() as stack:
        count = 0

        def make(rulebook: str | Path, **options: Any) -> WorkerProcess:
            nonlocal count
            count += 1
            name = options.setdefault("name", f"worker-{count}")
            if options.get("dsn") is not None:
                options.setdefault("worker_id", name)
            options.setdefault("root", tmp_path)
            options["env"] = {**quick_variables, **(options.get("env") or {})}
            return stack.enter_context(WorkerProcess(rulebook, **options))

        yield make


@pytest.fixture
def contender(
    tmp_path: Path, ha_uuid: str
) -> Iterator[Callable[..., ContenderProcess]]:
    """Start contenders: contender(dsn, poll=1.0, lease=None).

    They are named c1, c2 and so on, and share `ha_uuid`.
    """
    from rig.contender import ContenderProcess

    with contextlib.ExitStack() as stack:
        count = 0

        def make(
            dsn: str, worker_id: str | None = None, **options: Any
        ) -> ContenderProcess:
            nonlocal count
            count += 1
            options.setdefault("root", tmp_path)
            return stack.enter_context(
                ContenderProcess(
                    dsn,
                    options.pop("ha_uuid", ha_uuid),
                    worker_id or f"c{count}",
                    **options,
                )
            )

        yield make


@pytest.fixture(autouse=True, scope="session")
def _no_foreign_settings() -> Iterator[None]:
    """Keep the HA options of whoever runs the tests out of them."""
    saved = dict(os.environ)
    for key in saved:
        if key.startswith("EDA_HA_") and not key.startswith("EDA_HA_TEST_"):
            del os.environ[key]
    yield
    os.environ.update(saved)
