"""PostgreSQL: leases, passes, frontiers, and the hop through which everything reaches it."""
