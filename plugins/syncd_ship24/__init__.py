"""The connector for Ship24: trackers that are registered as effects, pulled, and told of."""
