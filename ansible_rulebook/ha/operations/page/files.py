"""The page's files, as they are served."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple


class PageFile(NamedTuple):
    content: bytes
    content_type: str


_HERE = Path(__file__).parent

FILES = {
    f"/{name}": PageFile((_HERE / name).read_bytes(), content_type)
    for name, content_type in (
        ("page.css", "text/css"),
        ("page.js", "text/javascript"),
        ("icon.svg", "image/svg+xml"),
    )
}
