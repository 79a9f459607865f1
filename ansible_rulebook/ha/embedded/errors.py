"""What goes wrong with the embedded server."""

from ..errors import HaError


class EmbeddedError(HaError):
    """The embedded server cannot be set up, started or stopped."""
