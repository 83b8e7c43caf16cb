"""Write the pools of the DAGs in the form ``airflow pools import`` reads (``python -m dags.pools > pools.json``)."""

from __future__ import annotations

import json
import sys

from dags.wiring import pools

if __name__ == "__main__":
    json.dump(
        {name: {"slots": 1, "description": text, "include_deferred": False} for name, text in pools().items()},
        sys.stdout,
        ensure_ascii=False,
        indent=2,
    )
