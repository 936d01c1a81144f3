"""The connector for TikTok's Display API: users and videos of connected stores."""
