"""Makes ``ansible-rulebook`` know its HA extension.

``ansible_rulebook_ha.pth`` has every interpreter put a small finder in front
of ``sys.meta_path``. It asks this module for two names only, so this module
is loaded in programs that import ansible-rulebook, and in no other:

* ``ansible_rulebook``: once loaded, the package also looks for its modules
  where this distribution is, in case the installer put the two in different
  folders (user site, editable install, distribution packages);
* ``ansible_rulebook.cli``: once loaded, it gets the ``--ha-*`` options.

(The finder is in the ``.pth`` file because an interpreter that writes no
bytecode takes over 1 ms to load any module from its source.)

Some interpreters read no ``.pth`` file: those of folders on ``PYTHONPATH``, of
zip applications, and with ``-S``. There :func:`main` does both, which is what
this distribution's ``ansible-rulebook`` calls.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Callable, Optional, Sequence

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from types import ModuleType

FINDER = "AnsibleRulebookHA"  # its class name in the .pth file
PACKAGE = "ansible_rulebook"
CLI = "ansible_rulebook.cli"


def main() -> object:
    """The command ``ansible-rulebook``, with its options in any case."""
    package = import_module(PACKAGE)
    extend_path(package)
    cli = import_module(CLI)
    graft(cli)
    return cli.main()


def find_spec(
    name: str,
    path: Optional[Sequence[str]] = None,
    target: Optional[ModuleType] = None,
) -> Optional[ModuleSpec]:
    """Return the spec that the other finders have for one of the two names.

    Loading by that spec, and not merely finding it, has our part done. None
    if nobody has a spec.
    """
    for finder in sys.meta_path:
        # Two site folders may each have put one there.
        if getattr(finder, "__name__", None) == FINDER:
            continue
        ask = getattr(finder, "find_spec", None)
        spec: Optional[ModuleSpec] = ask(name, path, target) if ask else None
        if spec is None:
            continue
        # Upstream may be gone and our folder still there. Python then finds
        # a namespace package, which has no origin and is not our business.
        if spec.origin is not None:
            run_after(spec.loader, extend_path if name == PACKAGE else graft)
            # "-m" stands there while Python looks for the module to run.
            if name == CLI and sys.argv[:1] == ["-m"]:
                run_imported(spec.loader)
        return spec
    return None


def run_after(loader: object, after: Callable[[ModuleType], None]) -> None:
    """Have this one loader call after(module) once it executed a module.

    The loader stays of its class, so that whatever else is asked of it
    (source, resources, code for ``-m``) is answered as ever.
    """
    exec_module = getattr(loader, "exec_module", None)
    if exec_module is None:
        return

    def exec_and_call(module: ModuleType) -> None:
        exec_module(module)
        after(module)

    loader.exec_module = exec_and_call  # type: ignore[attr-defined]


def run_imported(loader: object) -> None:
    """Have ``python -m ansible_rulebook.cli`` run the module that is grafted.

    Python would execute its code a second time, under the name __main__.
    """
    code = f"import sys; from {CLI} import main; sys.exit(main())"
    loader.get_code = lambda name: compile(  # type: ignore[attr-defined]
        code, f"<{CLI}>", "exec"
    )


def extend_path(package: ModuleType) -> None:
    """Add the folder of our half to the package's search path."""
    folder = os.path.join(os.path.dirname(__file__), PACKAGE)
    if folder not in package.__path__:
        package.__path__.append(folder)


def graft(cli: ModuleType) -> None:
    """Give the command its options, once.

    If that fails, a run that asks for HA ends here: without us it would act
    beside the leader. Any other run goes on as if we were not there.

    Raises:
        SystemExit: the HA extension cannot be loaded, and HA is asked for.
    """
    try:
        from ansible_rulebook.ha.upstream.cli import graft_cli

        graft_cli(cli)
    except Exception as error:
        if not ha_is_wanted():
            return
        sys.stderr.write(
            "ansible-rulebook: the HA extension cannot be loaded "
            f"({type(error).__name__}: {error}); install it again with: "
            "pip install --force-reinstall --no-deps ansible-rulebook-ha\n"
        )
        raise SystemExit(1) from None


def ha_is_wanted() -> bool:
    """Tell whether the command line or the environment has HA options."""
    return any(arg.startswith("--ha-") for arg in sys.argv[1:]) or any(
        name.startswith("EDA_HA_") and value
        for name, value in os.environ.items()
    )


if __name__ == "__main__":  # python -m _ansible_rulebook_ha
    sys.exit(import_module("_ansible_rulebook_ha").main())
