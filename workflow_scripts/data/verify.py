"""Verify the parts of an archive against the published checksums; the manifest is their seal.

python -m workflow_scripts.data.verify --parts 'DIR/TNLLT_part_*' [--md5 FILE] [--expect N] --manifest DIR.json
"""

from __future__ import annotations

import argparse
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from workflow_scripts import console, files, manifest
from workflow_scripts.console import BadInput
from workflow_scripts.data import checksums, parts


def verify(found: list[Path], published: dict[str, checksums.Digest]) -> dict[str, str]:
    """How each part was checked, by name. BadInput names a part that is listed and missing, or that differs."""
    parts.check_listed(published, found)

    def check(path: Path) -> str:
        digest = published.get(path.name)
        if digest is None:
            return "no published checksum"
        actual = files.digest(path, digest.algorithm)
        if actual != digest.value:
            raise BadInput(f"{path} has {digest.algorithm} {actual}, not {digest.value}: delete it and fetch it again.")
        return digest.algorithm

    with ThreadPoolExecutor(2) as pool:
        checked = list(console.progress(pool.map(check, found), "parts verified", len(found)))
    return {path.name: how for path, how in zip(found, checked, strict=True)}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Verify the parts of an archive.")
    parser.add_argument("--parts", required=True, help="glob pattern of the parts, quoted")
    parser.add_argument("--md5", type=Path, help="published checksum file")
    parser.add_argument("--expect", type=int, help="number of parts there must be")
    parser.add_argument("--manifest", type=Path, help="manifest to write")
    arguments = parser.parse_args()
    found = parts.find(arguments.parts, arguments.md5)
    if arguments.expect is not None and len(found) != arguments.expect:
        raise BadInput(
            f"{arguments.parts} matches {len(found)} parts, not {arguments.expect}: fetch the rest, or mend data.archive.parts."
        )
    checked = verify(found, checksums.read(arguments.md5) if arguments.md5 else {})
    for name, how in checked.items():
        print(f"{name}: {how}")
    if arguments.manifest:
        manifest.write(arguments.manifest, found, facts={"checked": checked})


if __name__ == "__main__":
    console.run(main)
