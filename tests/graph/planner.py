"""What Snakemake would do in a study, asked many times over: one process holds Snakemake, and each answer is a fork of it.

    with Planner(folder) as planner:
        planner.jobs(["all"])        # every job that the targets stand on, and why it would run

A fork starts from Snakemake freshly imported and knows nothing of the plans before it, so that an answer is what
`snakemake --dry-run` says in the folder at that moment (a test compares the two), without its start.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import traceback
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

CONFIG = "tests/graph/smallest.yaml"


@dataclass(frozen=True)
class Job:
    """A job of a plan. `watched` inputs rerun it when their content changes, `ancient` ones need only be there.

    `because` is empty for a job that would not run, else what Snakemake names as its reasons.
    """

    rule: str
    outputs: tuple[str, ...]
    watched: tuple[str, ...]
    ancient: tuple[str, ...]
    code: tuple[str, ...]
    because: str


class Planner:
    """The process beside the tests; it ends with the block."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, "-m", "tests.graph.planner"]
        self._process = subprocess.Popen(command, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> Planner:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._process.stdin.close()
        self._process.wait()

    def jobs(self, targets: Iterable[str], config: Mapping[str, Any] | None = None) -> list[Job]:
        """Every job below `targets`, sorted by rule and outputs, with `config` laid over the parameters."""
        self._process.stdin.write(json.dumps({"targets": list(targets), "config": config or {}}) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return [Job(**{k: v if isinstance(v, str) else tuple(v) for k, v in job.items()}) for job in answer["jobs"]]

    def runs(self, targets: Iterable[str], config: Mapping[str, Any] | None = None) -> set[Job]:
        """Those that would run."""
        return {job for job in self.jobs(targets, config) if job.because and job.rule != "all"}


def plan(targets: list[str], config: dict[str, Any]) -> list[dict[str, Any]]:
    """The jobs as dictionaries of Job's fields. To be called once in a process: Snakemake leaves its imports behind."""
    from snakemake.api import SnakemakeApi
    from snakemake.settings.enums import Quietness
    from snakemake.settings.types import ConfigSettings, DAGSettings, OutputSettings, ResourceSettings

    with SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api:
        workflow_api = api.workflow(
            resource_settings=ResourceSettings(cores=2),
            config_settings=ConfigSettings(configfiles=[Path(CONFIG)], config=config),
            snakefile=Path("Snakefile").absolute(),
        )
        dag_api = workflow_api.dag(dag_settings=DAGSettings(targets=set(targets), force_incomplete=True))
        workflow = dag_api.workflow_api._workflow  # Snakemake has no public way to the jobs and their reasons
        workflow._prepare_dag(forceall=False, ignore_incomplete=False, lock_warn_only=True, nolock=True)
        workflow._build_dag()
        code_files = workflow.globals["CODE_FILES"]
        found = []
        for job in workflow.dag.jobs:
            inputs = {str(i): bool(i.is_ancient) for i in job.input}
            found.append(
                {
                    "rule": job.rule.name,
                    "outputs": sorted(map(str, job.output)),
                    "watched": sorted(i for i, ancient in inputs.items() if not ancient),
                    "ancient": sorted(i for i, ancient in inputs.items() if ancient),
                    "code": sorted({f for value in job.params for f in code_files.get(str(value), ())}),
                    "because": str(workflow.dag.reason(job)) if workflow.dag.needrun(job) else "",
                }
            )
        return sorted(found, key=lambda job: (job["rule"], job["outputs"]))


def answer(line: str) -> str:
    """One line of JSON for one line of JSON."""
    try:
        return json.dumps({"jobs": plan(**json.loads(line))})
    except BaseException:  # Snakemake ends a process where it cannot go on
        return json.dumps({"error": traceback.format_exc()})


def main() -> None:
    """Answer the questions on standard input, each in a process of its own."""
    import snakemake.api  # noqa: F401

    from workflow_scripts import graph, params, recall, runs  # noqa: F401  # what the Snakefile imports, before each fork

    answers = os.dup(1)
    os.dup2(2, 1)  # Snakemake may print
    for line in iter(sys.stdin.readline, ""):
        child = os.fork()
        if child == 0:
            text = answer(line)
            with open(answers, "w") as handle:
                handle.write(text + "\n")
            os._exit(0)
        os.waitpid(child, 0)


if __name__ == "__main__":
    main()
