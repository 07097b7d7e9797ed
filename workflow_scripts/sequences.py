"""The sequence model, and the index: one neutral file a benchmark, which every stage but `data` reads instead of a layout.

The index is an uncompressed .npz: a JSON header (benchmark, one record a sequence, its frames as a folder relative to the
dataset's root and runs of counting names), all boxes [sum N, 4] float64 and presence flags [sum N] bool.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Mapping
from collections.abc import Sequence as Series
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workflow_scripts import files
from workflow_scripts.console import BadInput
from workflow_scripts.frames import Frames

INDEX_VERSION = 2


@dataclass(frozen=True)
class Sequence:
    """One video: frame paths in order, ground truth, and what the benchmark says about it."""

    name: str
    split: str
    frames: Series[Path]  # readers and indices give Frames, which hold millions of paths in little memory
    boxes: NDArray[np.float64]  # [N, 4] xywh pixels; [1, 4] where only the first frame's is public
    present: NDArray[np.bool_]  # [N], False where the target is out of view or fully hidden
    sentence: str
    attributes: tuple[str, ...] = field(default=())
    fps: float | None = None
    first_frame_only: bool = False
    start: int = 0  # index of the first frame within the benchmark's own numbering

    def __len__(self) -> int:
        return len(self.frames)


def write_index(
    path: str | Path,
    sequences: Series[Sequence],
    root: str | Path,
    benchmark: str,
    extra: Series[Mapping[str, Any]] | None = None,
) -> None:
    """Write the index of `sequences`, whose frames lie under `root`; `extra` holds further keys of each one's record.

    BadInput if a frame is not under `root`.
    """
    root = Path(root)
    records = []
    for s, more in zip(sequences, extra or [{}] * len(sequences), strict=True):
        try:
            frames = s.frames if isinstance(s.frames, Frames) else _compact(s.frames)
            folder = frames.folder.relative_to(root).as_posix() if frames else "."
        except ValueError:
            raise BadInput(f"{s.name}: its frames are not under {root}; index the folder that holds them.") from None
        records.append(
            {
                "name": s.name,
                "split": s.split,
                "frames": len(frames),
                "folder": folder,
                "runs": frames.runs,
                "boxes": len(s.boxes),
                "sentence": s.sentence,
                "attributes": list(s.attributes),
                "fps": s.fps,
                "first_frame_only": s.first_frame_only,
                "start": s.start,
                **more,
            }
        )
    header = {"version": INDEX_VERSION, "benchmark": benchmark, "root": root.as_posix(), "sequences": records}
    text = json.dumps(header, ensure_ascii=False)
    with files.atomic_path(path) as temporary, open(temporary, "wb") as handle:
        np.savez(
            handle,
            header=np.frombuffer(text.encode(), dtype=np.uint8),
            boxes=np.concatenate(
                [np.asarray(s.boxes, dtype=np.float64).reshape(-1, 4) for s in sequences] or [np.empty((0, 4))]
            ),
            present=np.concatenate([np.asarray(s.present, dtype=bool) for s in sequences] or [np.empty(0, dtype=bool)]),
        )


def _compact(frames: Series[Path]) -> Frames:
    """Paths as one folder, the deepest that holds them all, and names below it."""
    if not frames:
        return Frames(".", ())
    folder = Path(os.path.commonpath([f.parent for f in frames]))
    return Frames.of(folder, [f.relative_to(folder).as_posix() for f in frames])


def read_header(path: str | Path) -> dict:
    """The index's header: benchmark, root and one record a sequence, without boxes or presence."""
    return _load(path, ())[0]


def read_index(
    path: str | Path,
    root: str | Path | None = None,
    split: str | None = None,
    names: Series[str] | None = None,
) -> list[Sequence]:
    """Sequences of an index, in its order; only those of `split` and `names` where given.

    `root` replaces the dataset folder that was indexed. BadInput if the file is no index or a name is unknown.
    """
    header, arrays = _load(path, ("boxes", "present"))
    base = Path(root if root is not None else header["root"])
    known = {r["name"] for r in header["sequences"]}
    unknown = sorted(set(names or ()) - known)
    if unknown:
        raise BadInput(f"{path} has no sequence called {unknown[0]}; it has {len(known)}, for example {sorted(known)[0]}.")
    wanted = None if names is None else set(names)
    result, offset = [], 0
    for record in header["sequences"]:
        end = offset + record["boxes"]
        if (split is None or record["split"] == split) and (wanted is None or record["name"] in wanted):
            result.append(
                Sequence(
                    name=record["name"],
                    split=record["split"],
                    frames=Frames(base / record["folder"], record["runs"]),
                    boxes=arrays["boxes"][offset:end].copy(),
                    present=arrays["present"][offset:end].copy(),
                    sentence=record["sentence"],
                    attributes=tuple(record["attributes"]),
                    fps=record["fps"],
                    first_frame_only=record["first_frame_only"],
                    start=record["start"],
                )
            )
        offset = end
    return result


def attribute_names(path: str | Path) -> list[str]:
    """All attributes that occur in an index, sorted."""
    return sorted({a for record in read_header(path)["sequences"] for a in record["attributes"]})


def _load(path: str | Path, names: Series[str]) -> tuple[dict, dict[str, NDArray]]:
    """The header, and those arrays that are asked for."""
    try:
        with np.load(path) as archive:
            header = json.loads(archive["header"].tobytes())
            version, arrays = header["version"], {name: archive[name] for name in names}
    except FileNotFoundError:
        raise BadInput(f"{path} does not exist: index the benchmark first (workflow_scripts.data.index).") from None
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile):
        raise BadInput(f"{path} is not an index: delete it and index the benchmark again.") from None
    if version != INDEX_VERSION:
        raise BadInput(f"{path} was written by another version of this project: index the benchmark again.")
    return header, arrays
