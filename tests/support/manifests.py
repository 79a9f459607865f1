"""The manifests for Kubernetes in ``deploy/``, as Kubernetes gets them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

KUBERNETES = Path(__file__).parents[2] / "deploy" / "kubernetes"


def load(name: str) -> list[dict[str, Any]]:
    """The resources of one file."""
    text = (KUBERNETES / name).read_text("utf-8")
    return list(yaml.safe_load_all(text))


def resources() -> list[dict[str, Any]]:
    """All that kustomization.yaml names, but for what it generates."""
    (kustomization,) = load("kustomization.yaml")
    return [each for name in kustomization["resources"] for each in load(name)]


def deployment() -> dict[str, Any]:
    """The workers'."""
    (found,) = [each for each in resources() if each["kind"] == "Deployment"]
    return found


def arguments() -> list[str]:
    """The workers' command."""
    (container,) = deployment()["spec"]["template"]["spec"]["containers"]
    return list(container["args"])


def option(flag: str) -> str:
    """What the command has after that."""
    words = arguments()
    return words[words.index(flag) + 1]
