"""Reading the pair dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from workflow_scripts.console import BadInput


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Rows of a parquet of the pair dataset; pictures as absolute paths. BadInput if a picture is missing."""
    import pyarrow.parquet as parquet

    rows = parquet.read_table(path).to_pylist()
    for row in rows:
        row["images"] = [str((path.parent / image).absolute()) for image in row["images"]]
        for image in row["images"]:
            if not Path(image).is_file():
                raise BadInput(f"{image} of {path} is missing: build the pairs again.")
    return rows
