"""Run a command in one stage's pinned environment, building that environment first if it is not there.

    python -m workflow_scripts.in_env track -- python -m workflow_scripts.track.run --help

An environment is a virtual environment in a cache outside the clone, keyed by the hash of its lock (envs/<name>.lock, with
the locks it includes) and of the repairs made after installing (envs/repair.py). It is built once, under a file lock, in a
temporary folder that is renamed when it is whole: two jobs that ask at once share one build, and a build that was killed
leaves nothing that anyone would use. Only the standard library is needed here, so that any Python 3.11 can start it.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from workflow_scripts import gpus, runs

ROOT = Path(__file__).resolve().parent.parent
LOCKS = ROOT / "envs"
# The one place where PyTorch's own index is named; TRACKGRAPH_TORCH_INDEX overrides it (a mirror, a CUDA index).
TORCH_INDEX = "https://download.pytorch.org/whl/cpu"


def cache_root() -> Path:
    """Folder that holds all environments; TRACKGRAPH_ENVS overrides the default in the user's cache."""
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "trackgraph" / "envs"
    return Path(os.environ.get("TRACKGRAPH_ENVS") or default).absolute()


def read_lock(name: str) -> str:
    """Text of envs/<name>.lock with its ``-r other.lock`` lines replaced by the other lock's text."""
    path = LOCKS / f"{name}.lock"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in LOCKS.glob("*.lock")))
        raise SystemExit(f"{path} does not exist: name one of the environments {known}.")
    lines = []
    for line in path.read_text().splitlines(keepends=True):
        included = line.strip().removeprefix("-r ").removesuffix(".lock")
        lines.append(read_lock(included) if line.startswith("-r ") else line)
    return "".join(lines)


def split_requirements(lock: str) -> tuple[list[str], str]:
    """The lock's pin of a CPU build (``torch==...+cpu``, which no package index's hash covers) and the text of all else."""
    torch, rest, keep = [], [], True
    for line in lock.splitlines(keepends=True):
        if not line[0].isspace():
            keep = not (line.startswith("torch==") and "+cpu" in line)
            if not keep:
                torch.append(line.split()[0])
        if keep:
            rest.append(line)
    return torch, "".join(rest)


def environment(name: str) -> tuple[Path, str]:
    """Where the environment belongs, and its lock's text."""
    lock = read_lock(name)
    key = hashlib.sha256(lock.encode() + (LOCKS / "repair.py").read_bytes()).hexdigest()[:12]
    return cache_root() / key, lock


def ensure(name: str) -> Path:
    """Build the environment unless it is there; returns its folder. Raises SystemExit with the log's tail if a step fails."""
    folder, lock = environment(name)
    if (folder / "complete").exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(f"{folder}.lock", "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            print(f"building the {name} environment in {folder} ...", file=sys.stderr, flush=True)
            shutil.rmtree(folder, ignore_errors=True)  # a killed build's remains
            try:
                build(folder, lock)
            except subprocess.CalledProcessError as error:
                shutil.rmtree(folder, ignore_errors=True)
                tail = "\n".join((error.stdout or "").splitlines()[-15:])
                raise SystemExit(
                    f"{tail}\nenvs/{name}.lock could not be installed ({error.cmd[0]} ended with {error.returncode}): "
                    "see the lines above; run the same command again once the package index answers."
                ) from None
            (folder / "complete").write_text(f"{name}\n")
    return folder


def build(folder: Path, lock: str) -> None:
    """Create the virtual environment at `folder` and install exactly what `lock` names, checked against its hashes."""
    # also where a command that already runs in another environment asks for this one
    places = [str(Path(sys.executable).parent), str(ROOT / ".venv" / "bin"), os.environ.get("PATH", "")]
    uv = shutil.which("uv", path=os.pathsep.join(places))
    if uv is None:
        raise SystemExit("uv is missing: run `make setup`, then start again from the activated .venv.")
    step([uv, "venv", "--quiet", "--seed", "--python", sys.executable, str(folder)])
    python = str(folder / "bin" / "python")
    torch, rest = split_requirements(lock)
    for pin in torch:
        install_torch(python, pin)
    requirements = folder / "requirements.txt"
    requirements.write_text(rest)
    options = ["--quiet", "--no-deps", "--require-hashes", "--python", python, "-r", str(requirements)]
    step([uv, "pip", "install", *options])
    step([python, str(LOCKS / "repair.py")])


def install_torch(python: str, pin: str) -> None:
    """Install the CPU build: one that pip finds by its own settings first, else the one of PyTorch's index."""
    command = [python, "-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check", pin]
    if subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode:
        step([*command, "--index-url", os.environ.get("TRACKGRAPH_TORCH_INDEX") or TORCH_INDEX])


def step(command: list[str]) -> None:
    """Run one installing step; its output is kept for the error message."""
    subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def clear(makes: list[str]) -> None:
    """Remove what an earlier job of the node left half-written when it was killed: files, or the folder that they lie in."""
    from workflow_scripts import files, node

    files.sweep({*map(Path, makes), *(Path(output).parent for output in makes), node.place(makes)})


def given_back(arguments: argparse.Namespace, command: list[str], environment: str) -> bool:
    """Whether the node's outputs were put back. If not, its command is told what its record and manifest need."""
    from workflow_scripts import node, recall

    reads = recall.hashes(arguments.reads)
    key = recall.key(command, environment, arguments.code, reads)
    if recall.recall(key, arguments.makes):
        return True
    lock = hashlib.sha256(read_lock(arguments.name).encode()).hexdigest()
    node.tell(key=key, makes=arguments.makes, reads=reads, command=command, code=arguments.code, lock=lock)
    return False


def enter(name: str) -> None:
    """Start the running module again in the environment `name`, unless some environment was entered already.

    For commands that a user types: they import nothing beyond the standard library and pydantic before this.
    """
    if "TRACKGRAPH_ENV" not in os.environ:
        module = sys.modules["__main__"].__spec__.name  # type: ignore[union-attr]
        command = ["-m", "workflow_scripts.in_env", name, "--", "python", "-m", module, *sys.argv[1:]]
        os.execv(sys.executable, [sys.executable, *command])


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Run a command in a stage's pinned environment (built on first use).")
    parser.add_argument("name", help="environment: a lock's name in envs/")
    parser.add_argument("--makes", nargs="+", default=[], help="a node's outputs, given back if they would be the same again")
    parser.add_argument("--reads", nargs="+", default=[], help="the node's inputs, whose content decides that")
    parser.add_argument("--code", default="", help="fingerprint of all files that the node's code consists of")
    parser.add_argument("--gpus", type=int, default=0, help="GPUs of its own that the command gets (under Slurm: Slurm's)")
    parser.epilog = "After -- comes the command; without one the environment is only built, and its folder printed."
    end = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    arguments, command = parser.parse_args(sys.argv[1:end]), sys.argv[end + 1 :]
    folder = ensure(arguments.name)
    if not command:
        print(folder)
        return
    if arguments.makes:
        clear(arguments.makes)
    if arguments.makes and given_back(arguments, command, folder.name):
        print("nothing that this node reads has changed: its outputs are given back")
        return
    if arguments.makes:
        runs.die_with_parent()
    gpus.lease(arguments.gpus)
    os.environ["VIRTUAL_ENV"] = str(folder)
    os.environ["PATH"] = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    os.environ["TRACKGRAPH_ENV"] = f"{arguments.name}-{folder.name}"
    # One thread a process unless asked otherwise: OpenMP's barriers cost a factor of five beside another job.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    # Compiled modules are kept beside the environment whatever the caller's settings: importing torch takes a third of the
    # time, starting vLLM half, and the clone stays free of __pycache__.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = str(folder / "bytecode")
    sys.stdout.flush()
    try:
        os.execvp(command[0], command)
    except FileNotFoundError:
        raise SystemExit(f"{command[0]} is not a program of the {arguments.name} environment ({folder}).") from None


if __name__ == "__main__":
    main()
