"""What goes wrong with the embedded server."""


class EmbeddedError(RuntimeError):
    """The embedded server cannot be set up, started or stopped."""
