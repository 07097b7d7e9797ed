"""LLaMA-Factory as a child process: its own Hugging Face cache, no network, and an end with its parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from workflow_scripts import in_env, runs
from workflow_scripts.console import BadInput


def environment() -> dict[str, str]:
    """The child's environment. HF_HOME is one per environment: two versions of `datasets` spoil each other's cache."""
    variables = dict(os.environ)
    home = in_env.cache_root().parent / "huggingface" / os.environ.get("TRACKGRAPH_ENV", "sft")
    home.mkdir(parents=True, exist_ok=True)
    variables.setdefault("OMP_NUM_THREADS", "1")
    return variables | {
        "HF_HOME": str(home),
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "GRADIO_ANALYTICS_ENABLED": "False",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONUNBUFFERED": "1",
    }


def run(arguments: Sequence[str], log_hint: str) -> None:
    """Run ``llamafactory-cli ARGUMENTS``; its output goes where ours goes. BadInput on a non-zero end."""
    program = Path(sys.executable).parent / "llamafactory-cli"
    if not program.exists():
        raise BadInput("llamafactory-cli is not installed here: run through `python -m workflow_scripts.in_env sft -- ...`.")
    child = subprocess.Popen(
        [str(program), *arguments], env=environment(), preexec_fn=partial(runs.die_with_parent, signal.SIGTERM)
    )
    try:
        status = child.wait()
    finally:
        if child.poll() is None:
            child.terminate()
            child.wait()
    if status:
        raise BadInput(f"llamafactory-cli {arguments[0]} ended with {status}: see its last lines above; {log_hint}.")
