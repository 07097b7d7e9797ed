"""Zip archives of a fetched folder, each into a folder of its name beside it; the archive then goes, to save its room."""

from __future__ import annotations

import os
import shutil
import zipfile
from pathlib import Path

from workflow_scripts import console
from workflow_scripts.console import BadInput
from workflow_scripts.data.disk import check_disk


def unpack(folder: Path) -> None:
    """Unpack every zip below `folder`; a killed run continues with those that are left. BadInput names a damaged one."""
    archives = sorted(folder.rglob("*.zip"))
    for archive in console.progress(archives, f"unpacking {folder.name.strip('.')}", len(archives)):
        target = archive.with_suffix("")
        partial = target.with_name(f".{target.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        try:
            with zipfile.ZipFile(archive) as opened:
                check_disk(partial, sum(member.file_size for member in opened.infolist()))
                opened.extractall(partial)  # checks each CRC; drops `..` and leading slashes from names
        except zipfile.BadZipFile as error:
            raise BadInput(f"{archive} is damaged ({error}): delete it and fetch it again.") from None
        inner = partial / target.name  # some publishers put the folder into the archive, others its content
        alone = os.listdir(partial) == [target.name] and inner.is_dir()
        if target.exists():  # an earlier run was killed before it could remove the archive
            shutil.rmtree(target)
        os.replace(inner if alone else partial, target)
        shutil.rmtree(partial, ignore_errors=True)
        archive.unlink()
