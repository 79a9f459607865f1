"""Two workers on this machine: a killed leader, and the takeover."""
