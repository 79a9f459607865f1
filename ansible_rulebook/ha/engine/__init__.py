"""The rule engine: drools_jpy's names, and our Java beside it."""
