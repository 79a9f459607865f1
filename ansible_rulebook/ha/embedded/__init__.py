"""A PostgreSQL and a Java that come with the ``embedded`` extra."""
