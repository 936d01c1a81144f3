"""Keep PostgreSQL tables in step with TikTok stores: their users, videos and daily counts."""
