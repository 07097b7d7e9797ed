"""kill -9 at 20 random moments of a fetch, each in a run of its own, then the same command again: what it cost and what came.

    python -m workflow_scripts.in_env data -- python benchmarks/fetch_kills.py

A server on 127.0.0.1 gives a file at a limited rate and counts what it sends. The moments are spread evenly over an undisturbed
run, from the first import to the rename. Every file has to be that of the undisturbed run; the last column says how many bytes
came twice, of which one chunk (1 MiB) on its way when the process died is allowed.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "data")]  # the latter for the tests' server

from faulty_server import Server  # noqa: E402

from workflow_scripts.data import transfer  # noqa: E402


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moments", type=int, default=20, help="runs that are killed")
    parser.add_argument("--megabytes", type=int, default=12, help="size of the file")
    parser.add_argument("--seed", type=int, default=0, help="seed of the file and the moments")
    arguments = parser.parse_args()
    chance = random.Random(arguments.seed)
    server = Server()
    server.body = chance.randbytes(arguments.megabytes << 20)
    server.pause = 0.016  # after each 64 KiB: 4 MB/s at most, so that what lies in sockets when the process dies is little
    digest = hashlib.sha256(server.body).hexdigest()
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        start = time.monotonic()
        run(server, Path(folder, "whole"), digest).wait()
        whole = time.monotonic() - start
        print(f"undisturbed: {whole:.1f} s, {server.sent} bytes sent")
        kills = 0
        while kills < arguments.moments:
            target, before, moment = Path(folder, f"{kills}"), server.sent, chance.uniform(0, whole)
            child = run(server, target, digest)
            time.sleep(moment)
            child.kill()
            if child.wait() == 0:  # it was faster this time
                target.unlink()
                continue
            kills += 1
            partial = target.with_name(f".{target.name}.partial")
            kept = partial.stat().st_size if partial.exists() else 0
            run(server, target, digest).wait()
            twice = server.sent - before - len(server.body)
            same = target.exists() and hashlib.sha256(target.read_bytes()).hexdigest() == digest
            left = [name for name in os.listdir(folder) if name.startswith(".")]
            failed += not (same and twice <= transfer.CHUNK and not left)
            print(
                f"{kills:2d}  after {moment:5.2f} s, {kept:>9} bytes kept, {'same' if same else 'OTHER'} bytes, twice: {twice}"
            )
            target.unlink(missing_ok=True)
    print(f"{arguments.moments - failed} of {arguments.moments} as promised")
    raise SystemExit(bool(failed))


def run(server: Server, target: Path, digest: str) -> subprocess.Popen[bytes]:
    """The command, as a user types it."""
    command = [
        sys.executable,
        "-m",
        "workflow_scripts.data.fetch",
        "--url",
        server.url(),
        "--sha256",
        digest,
        "--output",
        str(target),
    ]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
