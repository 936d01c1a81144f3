"""Keep PostgreSQL tables in step with Front: conversations, and the shipments they speak of."""
