"""SQL of the control tables, and JSON Schemas of configuration and log events."""
