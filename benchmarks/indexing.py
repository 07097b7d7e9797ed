"""How long a benchmark of LaSOT's size takes to read and to index: 1,400 sequences, 3.5 million frames, no image opened.

    python -m workflow_scripts.in_env data -- python benchmarks/indexing.py --folder DIR [--sequences 1400 --frames 2512]

Empty images and drawn annotations in LaSOT's layout are written to a temporary folder in DIR (a minute, one inode a frame) and
removed at the end. First the annotation of 280 sequences is read, by us and by NumPy's loadtxt.
Then the index command runs in processes of its own: for the first time, again on the unchanged tree, and after one
annotation and one folder of frames have changed; before the first, where the system lets us, the page cache is emptied.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from workflow_scripts import sequences
from workflow_scripts.data import benchmarks, layouts
from workflow_scripts.data.layouts import common

ROOT = Path(__file__).resolve().parents[1]
START = np.array([400, 300, 80, 80])  # xywh of the first box
TEST = 280  # sequences of LaSOT's test split
FILES = ("groundtruth.txt", "full_occlusion.txt", "out_of_view.txt")


def write_tree(root: Path, count: int, frames: int) -> None:
    """Twenty sequences a class: random walks, a twentieth of the frames absent, and every image an empty file."""
    rng = np.random.default_rng(0)
    for number in range(count):
        name = f"class {number // 20:02d}-{number % 20 + 1}"
        images = root / name.rpartition("-")[0] / name / "img"
        images.mkdir(parents=True)
        handle = os.open(images, os.O_RDONLY)
        for frame in range(1, frames + 1):
            os.close(os.open(f"{frame:08d}.jpg", os.O_CREAT | os.O_WRONLY, dir_fd=handle))
        os.close(handle)
        boxes = np.maximum(np.cumsum(rng.integers(-3, 4, (frames, 4)), axis=0) + START, 1)
        absent = rng.random((2, frames)) < 0.025
        absent[:, 0] = False
        texts = ["\n".join(",".join(map(str, box)) for box in boxes.tolist()) + "\n"]
        texts += [",".join("01"[flag] for flag in flags) for flags in absent.tolist()]
        for file, text in zip((*FILES, "nlp.txt"), (*texts, "a thing that moves"), strict=True):
            (images.parent / file).write_text(text)
    names = [f"class {n // 20:02d}-{n % 20 + 1}" for n in range(count)]
    (root / "testing_set.txt").write_text("\n".join(names[:: max(1, count // TEST)][:TEST]) + "\n")


def timed(what: Callable[[], object], children: bool = False) -> tuple[float, float]:
    """Wall and CPU seconds."""
    who = resource.RUSAGE_CHILDREN if children else resource.RUSAGE_SELF
    wall, cpu = time.perf_counter(), resource.getrusage(who)
    what()
    spent = resource.getrusage(who)
    return time.perf_counter() - wall, spent.ru_utime + spent.ru_stime - cpu.ru_utime - cpu.ru_stime


def empty_page_cache() -> bool:
    """Forget what is read, where we may; whether we could."""
    os.sync()
    try:
        Path("/proc/sys/vm/drop_caches").write_text("3")
    except OSError:
        return False
    return True


def annotations(root: Path) -> None:
    """Print the time for the test split: its annotations by us and by loadtxt, and with the folders of frames, in turns."""
    benchmark = benchmarks.load("lasot")
    entries = [entry for entry in layouts.find(root, benchmark) if entry.split == "test"]

    def plain() -> None:
        for entry in entries:
            for file in FILES:
                np.loadtxt(entry.folder / file, delimiter=",")

    def alone() -> None:
        for entry in entries:
            common.read_boxes(entry.folder / FILES[0])
            for file in FILES[1:]:
                common.read_flags(entry.folder / file)
            common.read_sentence(entry.folder / "nlp.txt")

    def whole() -> None:
        for entry in entries:
            layouts.read(entry, benchmark)

    spent: dict[str, list[tuple[float, float]]] = {}
    for _ in range(3):
        for name, read in (("numpy.loadtxt", plain), ("annotation", alone), ("annotation and frames", whole)):
            spent.setdefault(name, []).append(timed(read))
    slowest = min(spent["numpy.loadtxt"])[0]
    for name, found in spent.items():
        wall, cpu = min(found)[0], min(cpu for _, cpu in found)
        print(f"{len(entries)} sets, {name}: {wall:.2f} s, CPU {cpu:.2f} s, ratio {slowest / wall:.1f}")


def index(root: Path, output: Path) -> None:
    """Run the command."""
    command = [sys.executable, "-m", "workflow_scripts.data.index", "--benchmark", "lasot", "--root", str(root)]
    environment = os.environ | {"TRACKGRAPH_INDICES": str(output.parent / "cache")}
    subprocess.run([*command, "--output", str(output)], check=True, cwd=ROOT, env=environment, capture_output=True)


def main() -> None:
    """Write the tree, read it, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="a folder on the disk to measure")
    parser.add_argument("--sequences", type=int, default=1400)
    parser.add_argument("--frames", type=int, default=2512)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        root, output = Path(name) / "lasot", Path(name) / "lasot.npz"
        print(f"writing {arguments.sequences * arguments.frames / 1e6:.2f} million empty images ...", flush=True)
        write_tree(root, arguments.sequences, arguments.frames)
        annotations(root)
        time.sleep(2.5)  # what is younger than two seconds is not kept
        cold = empty_page_cache()
        runs = [timed(lambda: index(root, output), children=True)]
        runs.append(timed(lambda: index(root, output), children=True))
        some = sorted(root.glob("*/*"))
        with (some[1] / "groundtruth.txt").open("r+") as handle:
            handle.write("9")
        (some[-1] / "img" / "00000001.jpg").rename(some[-1] / "img" / "00000000.jpg")
        runs.append(timed(lambda: index(root, output), children=True))
        found = sequences.read_index(output)
        changed = {s.name: s for s in found}
        assert changed[some[-1].name].frames[0].name == "00000000.jpg"
        assert changed[some[1].name].boxes[0, 0] == float("9" + (some[1] / "groundtruth.txt").read_text().split(",")[0][1:])
        names = (f"first time, {'cold' if cold else 'warm'} disk", "unchanged", "two sequences changed")
        for what, (wall, cpu) in zip(names, runs, strict=True):
            print(f"index, {what}: {wall:.2f} s, CPU {cpu:.2f} s, ratio {runs[0][0] / wall:.1f}")
        size = output.stat().st_size
        print(f"  the index: {size / 1e6:.0f} MB, {size / sum(map(len, found)):.1f} bytes a frame")


if __name__ == "__main__":
    main()
