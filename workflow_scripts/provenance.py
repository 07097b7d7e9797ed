"""What made a result: the chain from any output back to the sources, shown or hashed again.

    python -m workflow_scripts.provenance show results/tnllt_table.csv
    python -m workflow_scripts.provenance verify results/tnllt_table.csv
    python -m workflow_scripts.provenance pack --study mini      # what `dvc push` carries to another clone
    python -m workflow_scripts.provenance unpack --study mini    # after `dvc pull` there: make restore

Beside every manifest X.json lies X.provenance.json, written when the node's job ended: command, commit, environment and its
lock, code, hashes of what it read, device and times. It is no output of the graph, because its clock is not the same twice.
Packed with these records go Snakemake's own, so that a clone whose files came from DVC knows what they were made of.
"""

from __future__ import annotations

import argparse
import base64
import os
import tarfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from workflow_scripts import console, files, manifest, node
from workflow_scripts.console import BadInput

METADATA = Path(".snakemake", "metadata")


def find(path: str | Path) -> dict[str, Any] | None:
    """The record of the node that made `path` or a folder that it lies in; None for a source, which no node made."""
    for wanted in (Path(path), *Path(path).parents):
        for candidate in sorted(wanted.parent.glob(f"*{node.SUFFIX}")):
            value = files.read_json(candidate)
            if wanted.as_posix() in value["makes"]:
                return value
    return None


def chain(path: str | Path) -> Iterator[tuple[int, str, dict[str, Any] | None]]:
    """(depth, path, its record) from `path` back to the sources, depth first; what was met before is not followed again."""
    met: set[str] = set()
    waiting = [(0, Path(path).as_posix())]
    while waiting:
        depth, name = waiting.pop()
        found = find(name)
        if found and found["manifest"] in met:
            continue
        if found:
            met.add(found["manifest"])
            waiting += [(depth + 1, r) for r in sorted(found["reads"], reverse=True)]
        yield depth, name, found


def problems(path: str | Path) -> Iterator[str]:
    """One sentence for every output of the chain that is not what its manifest says, or was made of something else."""
    for _, name, found in chain(path):
        if found is None:
            if not Path(name).exists():
                yield f"{name} is missing, and no node makes it: restore it from where it came."
            continue
        try:
            manifest.verify(found["manifest"])
        except BadInput as error:
            yield str(error)
        for read, digest in found["reads"].items():
            if digest and Path(read).is_file() and files.sha256(read) != digest:
                yield f"{found['manifest']} was made from another {read} than the one that is here: run the node again."


def show(path: str | Path) -> None:
    """Print the chain as a tree: what was made, its size and hash, by which command, commit, environment and device, when,
    and of what; of a source, the hash of what was read."""
    from rich.console import Console
    from rich.markup import escape
    from rich.tree import Tree

    branches: list[Tree] = []
    digests: dict[str, str] = {}
    for depth, name, found in chain(path):
        if found:
            digests |= found["reads"]
        lines = _told(found) if found else ["made by no node", f"SHA-256 {digests.get(name) or 'not read'}"]
        label = escape("\n".join(lines))
        del branches[depth:]
        branch = f"[bold]{escape(name)}[/]\n{label}"
        branches.append(branches[-1].add(branch) if branches else Tree(branch))
    Console(highlight=False).print(branches[0])


def _told(record: dict[str, Any]) -> list[str]:
    """What a record and its manifest say of a node, in lines."""
    verb = next((part for part in record["command"] if part.startswith("workflow_scripts.")), record["command"][0])
    lines = [
        f"{verb}, commit {record['commit']}, code {record['code']}",
        f"environment {record['environment']}, lock {record['lock'][:12]}",
        f"{record['began']}, {record['seconds']:.0f} s on {record['device']}" + f", job {record['job']}" * bool(record["job"]),
    ]
    value = files.read_json(record["manifest"]) if Path(record["manifest"]).exists() else {}
    for output, made in value.get("outputs", {}).items():
        lines.append(f"made {output}: {made['files']} files, {made['bytes']} bytes, SHA-256 {made['sha256']}")
    command = record["command"]
    lines += [f"parameters {said[:400]}" for flag, said in pairwise(command) if flag == "--parameters"]
    return lines


def archive(study: str) -> Path:
    """Where the records of a study are packed."""
    return Path("results", study, "provenance.tar")


def pack(study: str) -> int:
    """Pack a study's records, and Snakemake's of the same outputs; returns how many files. Same records, same bytes."""
    tops = (f"data/{study}/", f"results/{study}/", "results/tnllt_table.")
    members = [p for top in ("data", "results") for p in _records(Path(top), study)]
    for path in METADATA.glob("**/*"):
        # a long name is split over folders; each piece is base64 of the output's path
        name = "".join(part.removeprefix("@") for part in path.relative_to(METADATA).parts)
        if path.is_file() and base64.urlsafe_b64decode(name).decode().startswith(tops):
            members.append(path)
    with files.atomic_path(archive(study)) as temporary, tarfile.open(temporary, "w", format=tarfile.PAX_FORMAT) as tar:
        for path in sorted(members):
            entry = tar.gettarinfo(path)
            entry.mtime, entry.uid, entry.gid, entry.uname, entry.gname = 0, 0, 0, "", ""
            with open(path, "rb") as handle:
                tar.addfile(entry, handle)
    return len(members)


def _records(top: Path, study: str) -> Iterator[Path]:
    """Record files of a study: they lie beside manifests, never inside a dataset or another folder that a node made."""
    waiting = [top / study, *([top] if top.name == "results" else [])]
    while waiting:
        folder = waiting.pop()
        found = sorted(folder.glob(f"*{node.SUFFIX}"))
        yield from found
        made = {m for record in found for m in files.read_json(record)["makes"]}
        if folder != top:
            inside = (p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")) if folder.is_dir() else ()
            waiting += [p for p in inside if p.as_posix() not in made]


def unpack(study: str) -> int:
    """Put the packed records where they were; returns how many. BadInput where DVC has not brought the archive."""
    if not archive(study).is_file():
        raise BadInput(
            f"{archive(study)} is not here: run `dvc pull` first (and `dvc repro`, `dvc push` where the study was made)."
        )
    with tarfile.open(archive(study)) as tar:
        members = tar.getmembers()
        tar.extractall(".", members, filter="data")
    return len(members)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="What made a result: show the chain back to the sources, or hash it again.")
    verbs = parser.add_subparsers(dest="what", required=True)
    for verb in ("show", "verify"):
        verbs.add_parser(verb).add_argument("path", type=Path, help="what the graph made, e.g. results/tnllt_table.csv")
    for verb in ("pack", "unpack"):
        verbs.add_parser(verb).add_argument("--study", default="mini", choices=("mini", "full"), help="whose records")
    arguments = parser.parse_args()
    if arguments.what in ("pack", "unpack"):
        count = {"pack": pack, "unpack": unpack}[arguments.what](arguments.study)
        print(f"{archive(arguments.study)}: {count} records {arguments.what}ed")
        return
    path = Path(os.path.relpath(arguments.path))
    if find(path) is None:
        raise BadInput(
            f"{path} was made by no node here ({path.parent}/*{node.SUFFIX}): name an output of the graph, from its root."
        )
    if arguments.what == "show":
        show(path)
        return
    found = list(problems(path))
    for problem in found:
        print(problem)
    nodes = sum(record is not None for _, _, record in chain(path))
    if found:
        raise BadInput(f"{path}: {len(found)} of its chain's promises do not hold, named above.")
    print(f"{path}: {nodes} nodes hashed again, every output is what its manifest says and was made from what is here")


if __name__ == "__main__":
    console.run(main)
