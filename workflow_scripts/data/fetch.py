"""Fetch a file or a registered artifact: resumable, verified, from several mirrors.

python -m workflow_scripts.data.fetch --url URL [--url MIRROR] --output FILE [--md5 HEX | --sha256 HEX | --checksums FILE]
python -m workflow_scripts.data.fetch --source NAME --output PATH [--member FILE] [--inbox DIR] [--wait SECONDS]
python -m workflow_scripts.data.fetch --source NAME --adopt PATH --output PATH
python -m workflow_scripts.data.fetch --source NAME --register [--output PATH]
python -m workflow_scripts.data.fetch --list [--json]
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from pathlib import Path
from typing import Any

from workflow_scripts import console, manifest, params
from workflow_scripts.console import BadInput
from workflow_scripts.data import checksums, hubs, inbox, register, transfer
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


def by_name(module: str) -> Any:
    """A module of this stage that fetching does not need; so imported, its edit downloads nothing again."""
    return importlib.import_module(f"workflow_scripts.data.{module}")


def study_folder(arguments: argparse.Namespace) -> Path:
    """Where the rules of the current study put what they fetch."""
    return Path("data", arguments.study or str(params.read_tree("params.yaml").get("study")))


def show(arguments: argparse.Namespace) -> None:
    """Print the register with what is here."""
    listing = by_name("listing")
    table = listing.rows(register.load(arguments.register_file), study_folder(arguments), arguments.inbox)
    print(json.dumps(table, indent=1, ensure_ascii=False)) if arguments.json else listing.show(table)


def record_source(arguments: argparse.Namespace) -> None:
    """Record in the register what is here of a source."""
    name, path, output, places = arguments.source, arguments.register_file, arguments.output, by_name("places")
    source = register.find(name, path)
    found = [places.at(output, arguments.member)] if output else places.find(name, study_folder(arguments))
    if not found or not found[0].path.exists():
        raise BadInput(f"nothing of {name} is here to be recorded: fetch it first, or say where it is with --output.")
    told = by_name("record").record(name, source, found, path)
    print("\n".join(told) or f"{path} knows all of {name} already, and it is what is here.")


def fetch_source(arguments: argparse.Namespace, settings: Fetching) -> dict[str, str]:
    """Fetch or adopt a source, or a member of it; returns facts for the manifest."""
    name = arguments.source
    source = register.find(name, arguments.register_file)
    if arguments.adopt:
        if not arguments.adopt.exists():
            raise BadInput(f"{arguments.adopt} does not exist: name the file or folder to adopt.")
        inbox.link(arguments.adopt, arguments.output, source, arguments.member)
        print(f"{arguments.output}: adopted from {arguments.adopt}")
        facts = {}
    else:
        wait = arguments.wait if arguments.wait is not None else float("inf") if sys.stderr.isatty() else 0.0
        place, member, revision = arguments.output, arguments.member, arguments.revision
        facts = hubs.fetch(name, source, place, settings, member, revision, arguments.inbox, wait)
    return {"source": name} | ({"member": arguments.member} if arguments.member else {}) | facts


def bring(arguments: argparse.Namespace) -> None:
    """Fetch or adopt what the flags name, and write its manifest: of a source always, it tells later what is here."""
    settings = params.section(arguments.parameters, "data.fetch", Fetching) if arguments.parameters else Fetching()
    output, seal = arguments.output, arguments.manifest
    if arguments.url:
        found = transfer.fetch(arguments.url, output, expected(arguments), settings=settings)
        print(f"{output}: {output.stat().st_size} bytes, {found}")
        facts = {"source": arguments.url}
    else:
        facts = fetch_source(arguments, settings)
        seal = seal or output.with_name(output.name + ".json")
    if seal:
        manifest.write(seal, [output], facts=facts)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Fetch one file, or one artifact of the register of sources.")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--url", action="append", default=[], help="http, https or file address; again for mirrors, in order")
    what.add_argument("--source", help="name of an entry of the register")
    what.add_argument("--list", action="store_true", help="print the register and what is here")
    parser.add_argument("--output", type=Path, help="file (or folder) to make")
    hashes = parser.add_mutually_exclusive_group()
    hashes.add_argument("--md5", help="expected MD5, hexadecimal")
    hashes.add_argument("--sha256", help="expected SHA-256, hexadecimal")
    hashes.add_argument("--checksums", type=Path, help="published md5sum file that lists the output's name")
    parser.add_argument("--member", help="one file of the source")
    parser.add_argument("--revision", help="full commit, for Hugging Face sources whose commit is unknown")
    parser.add_argument("--adopt", type=Path, help="file or folder that is here already: check and link it")
    parser.add_argument("--register", action="store_true", help="write size and hash of what is here into the register")
    parser.add_argument("--inbox", type=Path, default=inbox.INBOX, help="folder for what was fetched by hand")
    parser.add_argument("--wait", type=float, help="seconds to watch the inbox (default: on a terminal without end, else not)")
    parser.add_argument("--study", choices=params.STUDIES, help="whose data are meant (default: params.yaml's)")
    parser.add_argument("--json", action="store_true", help="--list as JSON")
    parser.add_argument("--register-file", type=Path, default=register.PATH, help="the register")
    parser.add_argument("--parameters", help="JSON of the section data.fetch (default: built in)")
    parser.add_argument("--manifest", type=Path, help="manifest to write last (of a source: <output>.json)")
    arguments = parser.parse_args()
    if arguments.list:
        show(arguments)
    elif arguments.register and arguments.source:
        record_source(arguments)
    elif arguments.output:
        bring(arguments)
    else:
        raise BadInput("say where to put it with --output (and what to --register with --source).")


if __name__ == "__main__":
    console.run(main)
