"""The same pages loaded by dlt, as its manual says for a REST API: upsert by key into PostgreSQL.

python peer_dlt.py ORDER TOLD

Runs in an environment of its own (`make bench-peers`). The list is kept as one JSON column and the
types are named, so that it fills the table that the others fill: without that it would make a child
table of the list, and be slower.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

os.environ["RUNTIME__DLTHUB_TELEMETRY"] = "false"  # before it is imported: it would call home

import dlt
from dlt.sources.rest_api import rest_api_source
from layouts import MOMENT, PRICE, TABLES, Layout

TYPES: dict[str, dict[str, Any]] = {
    "bigint": {"data_type": "bigint"},
    "text": {"data_type": "text"},
    "boolean": {"data_type": "bool"},
    "date": {"data_type": "date"},
    "jsonb": {"data_type": "json"},
    PRICE: {"data_type": "decimal", "precision": 14, "scale": 2},
    MOMENT: {"data_type": "timestamp"},
}


def source_of(order: dict[str, Any], table: Layout) -> Any:
    """Describe the API to dlt."""
    base_url, _, path = order["url"].rpartition("/")
    return rest_api_source(
        {
            "client": {
                "base_url": base_url,
                "paginator": {
                    "type": "page_number",
                    "base_page": 1,
                    "page_param": "page",
                    "total_path": None,
                    "stop_after_empty_page": True,
                },
            },
            "resources": [
                {
                    "name": table.name,
                    "endpoint": {
                        "path": path,
                        "params": {"per_page": order["per_page"]},
                        "data_selector": "data",
                    },
                    "primary_key": list(table.key),
                    "write_disposition": {"disposition": "merge", "strategy": "upsert"},
                    "columns": [
                        {"name": name, "primary_key": name in table.key, **TYPES[sql]}
                        for name, sql in table.columns
                    ],
                }
            ],
        }
    )


def url_of(dsn: dict[str, Any]) -> str:
    """Write the only form that dlt takes; libpq's own parameter names the socket."""
    password = Path(dsn["passfile"]).read_text().strip().rpartition(":")[2]
    where = f"{dsn['user']}:{password}@localhost:{dsn['port']}/{dsn['database']}"
    return f"postgresql://{where}?host={dsn['host']}"


def main(order: dict[str, Any]) -> float:
    """Load everything; answer with the seconds that the run took, imports aside."""
    (table,) = TABLES[order["shape"]]
    folder = Path(order["folder"])
    if order["phase"] == "first":
        shutil.rmtree(folder, ignore_errors=True)
    pipeline = dlt.pipeline(
        pipeline_name="bench",
        pipelines_dir=str(folder),
        destination=dlt.destinations.postgres(url_of(order["dsn"])),
        dataset_name=table.schema,
    )
    started_at = time.monotonic()
    pipeline.run(source_of(order, table))
    return time.monotonic() - started_at


if __name__ == "__main__":
    own = main(json.loads(Path(sys.argv[1]).read_text()))
    Path(sys.argv[2]).write_text(json.dumps({"own_seconds": own}))
