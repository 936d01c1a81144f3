"""The connector for Nhanh.vn: customers of its stores."""
