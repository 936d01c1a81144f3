"""Keep PostgreSQL tables in step with the car auctions of AuctionsAPI."""
