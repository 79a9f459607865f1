"""What survives a failover, kept in PostgreSQL."""
