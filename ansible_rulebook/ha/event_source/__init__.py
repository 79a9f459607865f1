"""Source plugins, found by name in a run with HA options."""
