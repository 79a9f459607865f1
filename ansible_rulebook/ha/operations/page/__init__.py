"""The page at ``/``: rendered here, kept up to date by server-sent events."""
