"""Upstream, ``ansible_rulebook``: its names, and what takes their place."""
