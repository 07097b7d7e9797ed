"""Restore an archive from its parts in one streaming pass: concatenate, hash, decompress, hash, extract.

    python -m workflow_scripts.data.restore --parts 'DIR/TNLLT_part_*' [--md5 FILE] --output DIR

Neither the joined tar.gz nor the tar touches the disk. Members go to a hidden folder beside the output, each written whole
and renamed; a killed run continues there and writes no finished file again. The output appears when all is extracted and the
published md5 fits. It may be of the tar.gz or of the tar (the usual instructions unpack before they check): both are tried.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import Any

from workflow_scripts import console, files, manifest
from workflow_scripts.console import BadInput
from workflow_scripts.data import checksums, inventory, members, parts, streams, verify
from workflow_scripts.data.checksums import Digest
from workflow_scripts.data.disk import check_disk
from workflow_scripts.data.meter import meter


@dataclass(frozen=True)
class Restored:
    """What one pass found."""

    files: int
    bytes: int
    skipped: int  # files that an earlier, killed run had finished
    tar_gz: str  # md5 of the parts together
    tar: str  # md5 of what they hold
    matched: str  # which of the two the publisher's md5 is of


class Workspace:
    """The hidden folder beside the output: what a killed run leaves there, the next one continues."""

    def __init__(self, output: Path) -> None:
        self.folder = output.with_name(f".{output.name}.partial")
        self.lock = self.folder / "lock"
        self.note = self.folder / "note.json"  # of which parts the files are; at the end also what the pass found
        self.files = self.folder / "files"  # the tree that becomes the output
        self.writing = self.folder / "writing"  # the one member that is not whole yet

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Make the folder, for this process alone; it goes again when its note is gone."""
        self.folder.mkdir(parents=True, exist_ok=True)
        ours = (self.lock.name, f".{self.note.name}")  # the latter: a note that a killed run was writing
        if not self.note.exists() and not all(name.startswith(ours) for name in os.listdir(self.folder)):
            raise BadInput(f"{self.folder} is not of an earlier restore: move it away, then run this again.")
        with open(self.lock, "ab") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise BadInput(f"{self.folder} is being written by another restore: wait for it to end.") from None
            try:
                yield
            finally:
                if not self.note.exists():
                    shutil.rmtree(self.folder, ignore_errors=True)

    def begin(self, identity: list[Any]) -> None:
        """Keep the files if they are of the same parts."""
        if self.note.exists() and files.read_json(self.note)["parts"] != identity:
            shutil.rmtree(self.files, ignore_errors=True)
        files.write_json(self.note, {"parts": identity})
        self.files.mkdir(exist_ok=True)

    def finished(self, identity: list[Any]) -> Restored | None:
        """What the pass found, if these parts are restored and only the last step, or its report, is missing."""
        note = files.read_json(self.note) if self.note.exists() else {}
        return Restored(**note["restored"]) if note.get("parts") == identity and "restored" in note else None


def candidates(published: dict[str, Digest], found: list[Path]) -> dict[str, str]:
    """The published md5s that are of no part, by name: one of them should be of the whole. BadInput where a part is missing."""
    parts.check_listed(published, found)
    whole = {name: digest for name, digest in published.items() if name not in {path.name for path in found}}
    for name, digest in whole.items():
        if digest.algorithm != "md5":
            raise BadInput(f"{name} is published with {digest.algorithm}, and only md5 is known here: take that line out.")
    return {name: digest.value for name, digest in whole.items()}


def match(whole: dict[str, str], tar_gz: str, tar: str) -> str:
    """Which convention the publisher's md5 of the whole follows. BadInput when it fits neither."""
    fits = [kind for kind, value in (("tar", tar), ("tar.gz", tar_gz)) if value in whole.values()]
    if whole and not fits:
        listed = " and ".join(f"md5 {value} of {name}" for name, value in whole.items())
        raise BadInput(f"published is {listed}, but the tar.gz has {tar_gz} and the tar {tar}: fetch the parts again.")
    return " and ".join(fits) or "nothing published"


def restore(
    found: list[Path],
    output: str | Path,
    published: dict[str, Digest] | None = None,
    listed: dict[str, int] | None = None,
    seal: Path | None = None,
) -> Restored:
    """Restore `found` (all parts, in order) into the new folder `output`; see the module's text for what is promised.

    `listed` is the inventory, bytes by path; `seal` the manifest to write when all is there.
    """
    output, published = Path(output).absolute(), published or {}
    work = Workspace(output)
    whole = candidates(published, found)
    identity = [[p.name, p.stat().st_size, p.stat().st_mtime_ns] for p in found]
    with work.held():
        result = work.finished(identity)
        moved = result is not None and not work.files.exists()
        if not moved and (output.is_symlink() or (output.exists() and (not output.is_dir() or any(output.iterdir())))):
            raise BadInput(f"{output} exists: move it away, then run this again.")
        if result is None:
            work.begin(identity)
            result = run_pass(found, work, published, whole, listed)
            work.writing.unlink(missing_ok=True)
            files.write_json(work.note, {"parts": identity, "restored": asdict(result)})
        if not moved:
            if output.exists():
                output.rmdir()
            os.replace(work.files, output)
        if seal:
            facts = {k: v for k, v in asdict(result).items() if k != "skipped"}
            manifest.write(seal, [output], facts=facts)
        work.note.unlink()
    return result


def run_pass(
    found: list[Path],
    work: Workspace,
    published: dict[str, Digest],
    whole: dict[str, str],
    listed: dict[str, int] | None,
) -> Restored:
    """Extract all members into the workspace while everything that passes is hashed."""
    total = sum(path.stat().st_size for path in found)
    there = members.sizes(work.files)
    check_disk(work.folder, max(0, (sum(listed.values()) if listed else total) - sum(there.values())))
    zipped, plain = hashlib.md5(), hashlib.md5()
    of_parts = {path.name: published[path.name] for path in found if path.name in published}
    try:
        with (
            meter("restoring", total) as passed,
            streams.ahead(streams.concatenated(found, of_parts, zipped, passed)) as gzip_blocks,
            streams.ahead(streams.inflated(gzip_blocks)) as inflated,
            streams.ahead(streams.hashed(inflated, plain)) as tar_blocks,
        ):
            extracted = members.extract(streams.Forward(tar_blocks), work.files, work.writing, there, listed)
    except streams.Damaged:
        if of_parts:
            verify.verify(found, of_parts)  # names the part that is to blame
        raise
    tar_gz, tar = zipped.hexdigest(), plain.hexdigest()
    return Restored(*astuple(extracted), tar_gz, tar, match(whole, tar_gz, tar))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", required=True, help="glob pattern of the parts, quoted")
    parser.add_argument("--md5", type=Path, help="published checksum file (of parts, tar.gz or tar, under any name)")
    parser.add_argument("--inventory", type=Path, help="published list of the files, '<bytes>  <path>' a line")
    parser.add_argument("--output", type=Path, required=True, help="folder to make")
    parser.add_argument("--manifest", type=Path, help="manifest to write last")
    arguments = parser.parse_args()
    found = parts.find(arguments.parts, arguments.md5, arguments.inventory)
    published = checksums.read(arguments.md5) if arguments.md5 else None
    listed = inventory.read(arguments.inventory) if arguments.inventory else None
    restored = restore(found, arguments.output, published, listed, arguments.manifest)
    print(f"{arguments.output}: {restored.files} files, {restored.bytes} bytes ({restored.skipped} were there already)")
    if listed is not None:
        print("they are as the inventory lists them, in number and size")
    print(f"md5 of the tar.gz {restored.tar_gz}\nmd5 of the tar    {restored.tar}\nthe published md5 is of: {restored.matched}")


if __name__ == "__main__":
    console.run(main)
