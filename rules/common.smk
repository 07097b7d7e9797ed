# What every rules file uses: the checked parameters, and a few words that keep the rules short.

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

# rules call plain `python`: the one that runs Snakemake, here and in every job of a cluster
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
sys.path.insert(0, str(Path(workflow.basedir)))
from workflow_scripts import graph, params, recall, runs
from workflow_scripts.console import BadInput

# no shell stands between Snakemake and a job's command, which asks the kernel to die with its parent
shell.prefix("set -euo pipefail; exec ")
# so do a run that DVC started, and the Snakemake of a cluster's job, which waits for ever where only its job was killed
if "DVC_STAGE" in os.environ or workflow.remote_exec:
    runs.die_with_parent()

try:
    PARAMS = params.resolve(config)
except BadInput as error:
    sys.exit(f"error: {error}")

STUDY = PARAMS.study
PARAMETER_NAMES = (
    {}
)  # text of a `parameters` value -> its name, read by workflow_scripts.graph for dvc.yaml
CODE_FILES = {}  # fingerprint of a `code` value -> its files, for the same


def parameters(name):
    """A section's values, e.g. "track.train", as the JSON that --parameters takes. A changed value reruns the rule."""
    value = PARAMS
    for part in name.split("."):
        value = value[part] if isinstance(value, dict) else getattr(value, part)
    value = value.model_dump(mode="json") if hasattr(value, "model_dump") else value
    text = json.dumps(value, sort_keys=True, ensure_ascii=False)
    PARAMETER_NAMES.setdefault(text, set()).add(name)
    return text


def code(*modules):
    """Fingerprint of these modules of workflow_scripts (e.g. "sft.train") and of all they import: editing one reruns the rule."""
    return fingerprint(graph.sources(modules))


def fingerprint(files):
    """Hash of what files of the package do; comments and docstrings are no part of it."""
    text = graph.fingerprint(tuple(files))
    CODE_FILES[text] = files
    return text


def lock(name):
    """The stage's environment; the full study takes the GPU lock where there is one."""
    gpu = f"{name}-gpu"
    found = STUDY == "full" and Path(workflow.basedir, "envs", f"{gpu}.lock").exists()
    return gpu if found else name


def env(name):
    """Start of a command in the stage's environment, told what the node reads and makes; its code and the command follow."""

    def start(wildcards, input, output, resources):
        gpu = resources.get("gpu", 0)
        reads = shlex.join(dict.fromkeys(input))
        return (
            f"python -m workflow_scripts.in_env {lock(name)} {f'--gpus {gpu} ' if gpu else ''}"
            f"--makes {shlex.join(output)}{' --reads ' + reads if reads else ''}"
        )

    return start


def begin():
    """Before the first job: nobody else works here; what was deleted or is forced is to be made again, not given back."""
    refused, note = runs.begin()
    if refused:
        sys.exit(f"error: {refused}")
    if note:
        print(f"note: {note}", file=sys.stderr)
    if cancelled := runs.cancel_orphans():
        print(
            f"note: cancelled what a killed run had left in the queue: {', '.join(cancelled)}",
            file=sys.stderr,
        )
    forced = [
        output
        for job in workflow.dag.needrun_jobs()
        if workflow.dag.reason(job).forced
        for output in job.output
    ]
    recall.forget(["results", f"results/{STUDY}", f"data/{STUDY}"], forced)


def gpus(count=1):
    """GPUs a job asks for: none in the mini study."""
    return count if STUDY == "full" else 0


def device():
    """Device that networks run on."""
    return "cuda" if STUDY == "full" else "cpu"


def show_table():
    """Print the table in readable form, if there is one. `make table` prints it itself, also when nothing was to be done."""
    table = Path("results/tnllt_table.csv")
    if table.exists() and "MAKELEVEL" not in os.environ:
        command = f"python -m workflow_scripts.in_env {lock('score')} -- python -m workflow_scripts.score.table --show {table}"
        subprocess.run(command.split(), check=False)
