"""Fetch a file or a registered artifact: resumable, verified, from several mirrors.

python -m workflow_scripts.data.fetch --url URL [--url MIRROR] --output FILE [--md5 HEX | --sha256 HEX | --checksums FILE]
python -m workflow_scripts.data.fetch --source NAME --output PATH [--member FILE] [--inbox DIR]
python -m workflow_scripts.data.fetch --source NAME --adopt PATH --output PATH
python -m workflow_scripts.data.fetch --list
"""

from __future__ import annotations

import argparse
from pathlib import Path

from workflow_scripts import console, manifest, params
from workflow_scripts.console import BadInput
from workflow_scripts.data import checksums, hubs, register, transfer
from workflow_scripts.params.data import Fetching


def expected(arguments: argparse.Namespace) -> checksums.Digest | None:
    """The hash that the flags ask for."""
    if arguments.md5:
        return checksums.digest(arguments.md5, "md5")
    if arguments.sha256:
        return checksums.digest(arguments.sha256, "sha256")
    if arguments.checksums:
        listed = checksums.read(arguments.checksums)
        return checksums.lookup(arguments.checksums, arguments.output.name) if listed else None
    return None


def show(path: Path, inbox: Path) -> None:
    """Print the register as a table, with what is here."""
    from rich.console import Console
    from rich.table import Table

    table = Table("source", "what", "size", "hash", "mirrors", "licence or terms", "here")
    for name, source in register.load(path).items():
        size = f"{source.size / 1e9:.2f} GB" if source.size else "unknown"
        kinds = ", ".join(mirror.kind for mirror in source.mirrors)
        here = "in the inbox" if (inbox / name).exists() else "-"
        table.add_row(name, source.what, size, source.hash.partition(":")[0], kinds, source.licence, here)
    Console().print(table)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Fetch one file, or one artifact of the register of sources.")
    parser.add_argument("--url", action="append", default=[], help="http, https or file address; again for mirrors, in order")
    parser.add_argument("--output", type=Path, help="file (or folder) to make")
    hashes = parser.add_mutually_exclusive_group()
    hashes.add_argument("--md5", help="expected MD5, hexadecimal")
    hashes.add_argument("--sha256", help="expected SHA-256, hexadecimal")
    hashes.add_argument("--checksums", type=Path, help="published md5sum file that lists the output's name")
    parser.add_argument("--source", help="name of an entry of the register instead of --url")
    parser.add_argument("--member", help="one file of that entry")
    parser.add_argument("--revision", help="full commit, for Hugging Face entries whose commit is unknown")
    parser.add_argument("--adopt", type=Path, help="file or folder that is here already: check and link it")
    parser.add_argument("--inbox", type=Path, default=hubs.INBOX, help="folder for what was fetched by hand")
    parser.add_argument("--register-file", type=Path, default=register.PATH, help="the register")
    parser.add_argument("--list", action="store_true", help="print the register and what is here")
    parser.add_argument("--parameters", help="JSON of the section data.fetch (default: params.yaml, else built in)")
    parser.add_argument("--manifest", type=Path, help="manifest to write last")
    arguments = parser.parse_args()
    if arguments.list:
        show(arguments.register_file, arguments.inbox)
        return
    if arguments.output is None or bool(arguments.url) == bool(arguments.source):
        raise BadInput("name what to fetch (--url or --source) and where to put it (--output); --list shows the sources.")
    settings = params.section(arguments.parameters, "data.fetch", Fetching) if arguments.parameters else Fetching()
    if arguments.url:
        found = transfer.fetch(arguments.url, arguments.output, expected(arguments), settings=settings)
        print(f"{arguments.output}: {arguments.output.stat().st_size} bytes, {found}")
    else:
        source = register.find(arguments.source, arguments.register_file)
        if arguments.adopt:
            if not arguments.adopt.exists():
                raise BadInput(f"{arguments.adopt} does not exist: name the file or folder to adopt.")
            hubs.link(arguments.adopt, arguments.output, source)
        else:
            hubs.fetch(
                arguments.source,
                source,
                arguments.output,
                arguments.member,
                arguments.inbox,
                arguments.revision,
                settings,
            )
    if arguments.manifest:
        manifest.write(arguments.manifest, [arguments.output], facts={"source": arguments.source or arguments.url})


if __name__ == "__main__":
    console.run(main)
