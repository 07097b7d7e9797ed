"""How much faster, and on how much less disk, one streaming pass restores an archive than its publisher's steps do.

    python -m workflow_scripts.in_env data -- python benchmarks/restore.py --gigabytes 5 --folder DIR

The archive is drawn from a seed: JPEG frames of a tracking benchmark's size and annotations, `tar`, `gzip`, `split` into ten
parts. As published, `cat`, `gunzip`, `md5sum` and `tar x` restore it one after the other; on the same disk the command of this
repository does, which also hashes the tar.gz. They take turns. Before each, what is written reaches the disk and, where the
system lets us, the page cache is emptied. The peak on the disk beyond the parts is sampled in a round of its own, which is not
timed. Both trees have to agree.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import os
import resource
import statistics
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
PARTS = 10
FRAMES_A_SEQUENCE = 500
TAR = "TNLLT_restored.tar"
WAYS = {  # command lines of each, which leave the dataset in a folder of its name
    "steps": {  # the published instructions
        "cat": f"cat parts/TNLLT_part_* > {TAR}.gz",
        "gunzip": f"gunzip {TAR}.gz",
        "md5sum": f"md5sum {TAR}",
        "tar x": f"mkdir steps && tar -x -f {TAR} -C steps",
    },
    "pass": {
        "restore": f"{sys.executable} -m workflow_scripts.data.restore --parts 'parts/TNLLT_part_*' "
        "--md5 parts/TNLLT.tar.gz.md5 --output pass"
    },
}


def drawn(seed: int, count: int) -> list[bytes]:
    """JPEGs of 1280x720 textures: gzip gains as little from them as from photographs."""
    rng = np.random.default_rng(seed)
    frames = []
    for _ in range(count):
        image = np.full((720, 1280, 3), 128, np.float32)
        for scale in (8, 16, 32, 64, 128):
            coarse = rng.normal(0, scale**0.8, (720 // scale + 1, 1280 // scale + 1, 3)).astype(np.float32)
            image += cv2.resize(coarse, (1280, 720), interpolation=cv2.INTER_CUBIC)
        image += rng.normal(0, rng.uniform(0, 3), (720, 1280, 1))
        jpeg = cv2.imencode(".jpg", image.clip(0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 85])[1]
        frames.append(jpeg.tobytes())
    return frames


def members(seed: int, size: int) -> Iterator[tuple[str, bytes]]:
    """Files of sequences until they have `size` bytes. Frames repeat, but never within what gzip looks back on."""
    rng, frames, made, number = np.random.default_rng(seed), drawn(seed, 64), 0, 0
    while made < size:
        sequence, frame = divmod(number, FRAMES_A_SEQUENCE)
        content = frames[number % len(frames)]
        if frame == 0:
            lines = (f"{x:.2f},{y:.2f},{w:.2f},{h:.2f}\n" for x, y, w, h in rng.uniform(0, 700, (FRAMES_A_SEQUENCE, 4)))
            yield f"TNLLT/Seq_{sequence:03d}/groundtruth.txt", "".join(lines).encode()
        yield f"TNLLT/Seq_{sequence:03d}/imgs/{frame + 1:05d}.jpg", content
        number, made = number + 1, made + len(content)


def publish(folder: Path, seed: int, size: int) -> None:
    """The archive's parts in `folder`, and one md5: of the tar, by the name of the tar.gz."""
    folder.mkdir(parents=True)
    shell = f"gzip | split -b {size // PARTS + 1} - TNLLT_part_"
    whole = hashlib.md5()

    class Tee(io.RawIOBase):
        def write(self, data) -> int:  # type: ignore[no-untyped-def, override]
            whole.update(data)
            return pipe.write(data)

    with subprocess.Popen(shell, shell=True, cwd=folder, stdin=subprocess.PIPE) as child:
        assert child.stdin is not None
        pipe = child.stdin
        with tarfile.open(fileobj=Tee(), mode="w|", format=tarfile.USTAR_FORMAT) as tar:
            for name, content in members(seed, size):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    (folder / "TNLLT.tar.gz.md5").write_text(f"{whole.hexdigest()}  TNLLT.tar.gz\n")


def level(folder: Path, *spent: str) -> bool:
    """Let both begin alike: nothing waits to be written, and the page cache is empty where the system lets us.

    What is `spent` is emptied, not deleted: for minutes ext4 passes over inodes that were freed, one by one.
    """
    heap = folder / "spent"
    heap.mkdir(exist_ok=True)
    for name in spent:
        if (folder / name).exists():
            (folder / name).rename(heap / str(len(os.listdir(heap))))
    for path in heap.rglob("*"):
        if path.is_file() and path.stat().st_size:
            os.truncate(path, 0)
    os.sync()
    try:
        Path("/proc/sys/vm/drop_caches").write_text("3")
    except OSError:
        return False
    return True


def timed(lines: dict[str, str], folder: Path) -> tuple[dict[str, float], float]:
    """Wall seconds of each command line and CPU seconds of all."""
    before, wall = resource.getrusage(resource.RUSAGE_CHILDREN), {}
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    for name, line in lines.items():
        start = time.perf_counter()
        subprocess.run(line, shell=True, check=True, cwd=folder, env=environment, stdout=subprocess.DEVNULL)
        wall[name] = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def on_disk(folder: Path) -> tuple[int, int]:
    """Bytes of all files but the parts and what is spent, and bytes of the blocks that they take up."""
    content = blocks = 0
    for parent, folders, names in os.walk(folder):
        if Path(parent) == folder:
            folders[:] = set(folders) - {"parts", "spent"}
        for name in names:
            try:
                status = Path(parent, name).stat()
            except FileNotFoundError:
                continue
            content, blocks = content + status.st_size, blocks + 512 * status.st_blocks
    return content, blocks


def peak(lines: dict[str, str], folder: Path) -> tuple[int, int]:
    """The most of both that was seen while the command lines ran."""
    seen, done = [(0, 0)], threading.Event()

    def watch() -> None:
        while not done.wait(0.1):
            seen.append(on_disk(folder))

    watcher = threading.Thread(target=watch)
    watcher.start()
    timed(lines, folder)
    seen.append(on_disk(folder))
    done.set()
    watcher.join()
    return max(content for content, _ in seen), max(blocks for _, blocks in seen)


def compare(folder: Path, gigabytes: float, runs: int, seed: int) -> None:
    """Make the parts, let both restore them in turn, and print how they differ."""
    publish(folder / "parts", seed, int(gigabytes * 1e9))
    size = sum(path.stat().st_size for path in (folder / "parts").iterdir())

    peaks = {}
    for way, lines in WAYS.items():
        level(folder, TAR, *WAYS)
        peaks[way] = peak(lines, folder)
    for index, kind in enumerate(("bytes", "blocks of the disk")):
        steps, ours = peaks["steps"][index] / size, peaks["pass"][index] / size
        print(
            f"peak beyond the parts, in {kind}: {steps:.3f} and {ours:.3f} of their size, ratio {ours / steps:.4f}", flush=True
        )

    ratios: dict[str, list[float]] = {"wall time": [], "CPU time": []}
    for _ in range(runs):
        level(folder, *WAYS)
        took = {}
        for way, lines in WAYS.items():
            cache = "emptied" if level(folder, TAR) else "kept"
            wall, cpu = took[way] = timed(lines, folder)
            each = ", ".join(f"{step} {seconds:.1f}" for step, seconds in wall.items())
            print(f"{way}: {sum(wall.values()):.1f} s ({each}), CPU {cpu:.1f} s; page cache {cache}", flush=True)
        subprocess.run(["diff", "-rq", *WAYS], cwd=folder, check=True)
        ratios["wall time"].append(sum(took["steps"][0].values()) / sum(took["pass"][0].values()))
        ratios["CPU time"].append(took["steps"][1] / took["pass"][1])
    for what, values in ratios.items():
        median, low, high = statistics.median(values), min(values), max(values)
        print(f"{what}: {median:.2f}x less in the median of {len(values)} rounds, {low:.2f}x to {high:.2f}x")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=5, help="size of the dataset")
    parser.add_argument("--runs", type=int, default=3, help="timed rounds")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="a folder on the disk to measure, with room for four times the dataset")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder, prefix="restore-") as place:
        compare(Path(place), arguments.gigabytes, arguments.runs, arguments.seed)


if __name__ == "__main__":
    main()
