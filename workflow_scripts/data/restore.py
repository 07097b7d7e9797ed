"""Restore an archive from its parts in one streaming pass: concatenate, hash, decompress, hash, extract.

    python -m workflow_scripts.data.restore --parts 'DIR/TNLLT_part_*' [--md5 FILE] --output DIR

Neither the joined tar.gz nor the tar touches the disk. Members go to a hidden folder beside the output, each written whole
and renamed; a killed run continues there and writes no finished file again. The output appears when all is extracted and the
published md5 fits. It may be of the tar.gz or of the tar (the usual instructions unpack before they check): both are tried.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import os
import shutil
import tarfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from workflow_scripts import console, files, manifest
from workflow_scripts.console import BadInput
from workflow_scripts.data import checksums, parts, streams, transfer
from workflow_scripts.data.checksums import Digest
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


def safe_path(member: tarfile.TarInfo) -> PurePosixPath:
    """The member's path below the target. BadInput for anything that is not a plain file or folder inside it."""
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts or "\\" in member.name or "\0" in member.name:
        raise BadInput(f"the archive holds {member.name!r}, which leads out of its folder: do not trust this archive.")
    if member.issym() or member.islnk():
        raise BadInput(f"the archive holds a link ({member.name!r}), and datasets need none: do not trust this archive.")
    if not (member.isdir() or member.isreg()) or member.issparse():
        raise BadInput(f"the archive holds {member.name!r}, which is no plain file: do not trust this archive.")
    return path


def extract(stream: io.RawIOBase, target: Path) -> tuple[int, int, int]:
    """Extract all members below `target`; returns files, bytes and how many files were there already."""
    seen: set[str] = set()
    count = size = skipped = 0
    temporary = target / ".writing"
    try:
        with tarfile.open(fileobj=stream, mode="r|", bufsize=streams.BLOCK) as archive:
            for member in archive:
                path = safe_path(member)
                if member.isdir():
                    (target / path).mkdir(parents=True, exist_ok=True)
                    continue
                if path.as_posix() in seen:
                    raise BadInput(f"the archive holds {member.name!r} twice: do not trust this archive.")
                seen.add(path.as_posix())
                count, size = count + 1, size + member.size
                final = target / path
                if final.is_file() and final.stat().st_size == member.size:
                    skipped += 1
                    continue
                final.parent.mkdir(parents=True, exist_ok=True)
                source = archive.extractfile(member)
                assert source is not None  # plain files only
                with open(temporary, "wb") as sink:
                    shutil.copyfileobj(source, sink, streams.BLOCK)
                os.replace(temporary, final)
    except tarfile.TarError as error:
        raise BadInput(f"what the parts hold is no whole tar archive ({error}): fetch the parts again.") from None
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise BadInput(f"the archive uses {error.filename} as file and as folder: do not trust this archive.") from None
    temporary.unlink(missing_ok=True)
    return count, size, skipped


def match(published: dict[str, Digest], part_names: set[str], tar_gz: str, tar: str) -> str:
    """Which convention the publisher's md5 of the whole follows. BadInput when it fits neither."""
    found = set()
    for name, digest in published.items():
        if name in part_names or "_part_" in name:
            continue
        if digest.algorithm != "md5":
            raise BadInput(
                f"{name} is published with {digest.algorithm}; only md5 of the whole is known here: check it by hand."
            )
        fits = {"tar.gz": digest.value == tar_gz, "tar": digest.value == tar}
        if not any(fits.values()):
            raise BadInput(
                f"{name} should have {digest}, but the tar.gz has {tar_gz} and the tar {tar}: fetch the parts again."
            )
        found |= {kind for kind, fit in fits.items() if fit}
    return " and ".join(sorted(found)) or "nothing published"


def restore(found: list[Path], output: str | Path, published: dict[str, Digest] | None = None) -> Restored:
    """Restore `found` (all parts, in order) into the new folder `output`; see the module's text for what is promised."""
    output, published = Path(output), published or {}
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise BadInput(f"{output} exists: move it away, then run this again.")
    partial = output.with_name(f".{output.name}.partial")
    note = output.with_name(f".{output.name}.partial.json")
    identity = [[p.name, p.stat().st_size, p.stat().st_mtime_ns] for p in found]
    if partial.exists() and (not note.exists() or files.read_json(note) != identity):
        shutil.rmtree(partial)  # of other parts
    partial.mkdir(parents=True, exist_ok=True)
    files.write_json(note, identity)
    total = sum(size for _, size, _ in identity)
    held = sum(f.stat().st_size for f in partial.rglob("*") if f.is_file())
    transfer.check_disk(partial, max(0, total - held))

    zipped, plain = hashlib.md5(), hashlib.md5()
    with meter(f"restoring {output.name}", total) as passed:
        gzip_blocks = streams.ahead(streams.concatenated(found, published, zipped, passed))
        tar_blocks = streams.ahead(streams.inflated(gzip_blocks, plain))
        try:
            stream = streams.Reader(tar_blocks)
            count, size, skipped = extract(stream, partial)
            stream.drain()
        finally:
            tar_blocks.close()
    matched = match(published, {p.name for p in found}, zipped.hexdigest(), plain.hexdigest())
    if output.exists():
        output.rmdir()
    os.replace(partial, output)
    note.unlink()
    return Restored(count, size, skipped, zipped.hexdigest(), plain.hexdigest(), matched)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Restore an archive from its parts in one streaming pass.")
    parser.add_argument("--parts", required=True, help="glob pattern of the parts, quoted")
    parser.add_argument("--md5", type=Path, help="published checksum file (of parts, tar.gz or tar)")
    parser.add_argument("--output", type=Path, required=True, help="folder to make")
    parser.add_argument("--manifest", type=Path, help="manifest to write last")
    arguments = parser.parse_args()
    found = parts.find(arguments.parts, arguments.md5)
    restored = restore(found, arguments.output, checksums.read(arguments.md5) if arguments.md5 else None)
    print(f"{arguments.output}: {restored.files} files, {restored.bytes} bytes ({restored.skipped} were there already)")
    print(f"md5 of the tar.gz {restored.tar_gz}\nmd5 of the tar    {restored.tar}\nthe published md5 is of: {restored.matched}")
    if arguments.manifest:
        facts = {k: v for k, v in vars(restored).items() if k != "skipped"}
        manifest.write(arguments.manifest, [arguments.output], facts=facts)


if __name__ == "__main__":
    console.run(main)
