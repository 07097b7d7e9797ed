"""What happens to the files of a study: lost, moved away for a while, edited, touched."""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager

from workflow_scripts.node import SUFFIX


def manifest_of(study, job):
    """The manifest among a job's outputs: it has the record of its making beside it."""
    (found,) = [o for o in job.outputs if o.endswith(".json") and (study / o).with_suffix(SUFFIX).exists()]
    return found


@contextmanager
def moved_away(study, paths):
    """Files and folders of the study are gone inside the block and back, clock and all, behind it."""
    away = study.parent / "away"
    away.mkdir()
    try:
        for number, path in enumerate(paths):
            (study / path).rename(away / str(number))
        yield
    finally:
        for number, path in enumerate(paths):
            (away / str(number)).rename(study / path)
        away.rmdir()


@contextmanager
def clocks_kept(study, paths):
    """What the block does to the clocks of files and folders is undone behind it."""
    times = {path: (study / path).stat() for path in paths}
    try:
        yield
    finally:
        for path, stat in times.items():
            os.utime(study / path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


@contextmanager
def edited(study, path, change):
    """`path` holds what `change` makes of its text, in a file of its own (outputs share theirs with what is kept)."""
    text = (study / path).read_text()
    with moved_away(study, [path]):
        try:
            (study / path).write_text(change(text))
            yield
        finally:
            (study / path).unlink()


def remove(path):
    """A file or folder is gone."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
