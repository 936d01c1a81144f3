"""The connector for the NPPES NPI registry: providers, and leads of them."""
