"""Configuration: a TOML file and an environment become frozen values, or all that is wrong.

`read` the file, import the plugins it enables, then `structure` it with their connectors.
"""

from syncd.config.admin import Admin, address_of
from syncd.config.files import RawConfig, content, parse, read
from syncd.config.manual import reference
from syncd.config.settings import (
    Config,
    Daemon,
    Database,
    Job,
    Log,
    Sharing,
    VaultKeys,
)
from syncd.config.structuring import structure
from syncd.config.values import (
    Duration,
    Range,
    Size,
    Unit,
    Unwanted,
    between,
    duration_seconds,
    duration_text,
    lasting,
    size_bytes,
    size_text,
)

__all__ = [
    "Admin",
    "Config",
    "Daemon",
    "Database",
    "Duration",
    "Job",
    "Log",
    "Range",
    "RawConfig",
    "Sharing",
    "Size",
    "Unit",
    "Unwanted",
    "VaultKeys",
    "address_of",
    "between",
    "content",
    "duration_seconds",
    "duration_text",
    "lasting",
    "parse",
    "read",
    "reference",
    "size_bytes",
    "size_text",
    "structure",
]
