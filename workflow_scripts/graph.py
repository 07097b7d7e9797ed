"""The graph as data: which files a command's code consists of, and the nodes of the study for dvc.yaml and the README.

    python -m workflow_scripts.graph dvc        # writes dvc.yaml
    python -m workflow_scripts.graph picture    # writes the picture into README.md

Both are generated from Snakemake's own plan of the mini study, and a test says whether they are current.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import platform
import re
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from workflow_scripts import console, files, params
from workflow_scripts.console import BadInput

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "workflow_scripts"
STAGES = ("data", "sft", "grpo", "serve", "track", "score", "report")
# Modules that carry values and files but decide nothing of a node's content: editing them reruns nothing.
PLUMBING = {
    "__init__",
    "console",
    "files",
    "gpus",
    "graph",
    "in_env",
    "manifest",
    "node",
    "params",
    "provenance",
    "recall",
    "reference",
    "runs",
}
PICTURE = re.compile(r"(<!-- graph -->\n).*?(<!-- /graph -->)", re.DOTALL)


def sources(modules: Iterable[str]) -> list[str]:
    """Paths, relative to the root, of `modules` (``stage.verb``) and of every module of the package they import.

    Data files (YAML, JSON) beside a stage's modules are the module's own business and named by the rule.
    """
    found: set[str] = set()
    for module in modules:
        found |= _closure(f"{PACKAGE}.{module}")
    return sorted(found)


@cache
def _closure(module: str) -> frozenset[str]:
    seen: set[str] = set()
    waiting = [module]
    result = set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        path = _file(name)
        if path is None or name.split(".")[1] in PLUMBING:
            continue
        if not _module(path)["empty"]:
            result.add(path.relative_to(ROOT).as_posix())
        waiting += _imports(path, name)
    if _file(module) is None:
        raise BadInput(f"{module} is not a module of {PACKAGE}: correct the name in rules/.")
    return frozenset(result)


@cache
def fingerprint(paths: tuple[str, ...]) -> str:
    """Short hash of what files, relative to the root, do: editing a comment or a docstring of a module leaves it."""
    lines = [f"{path} {_meaning(ROOT / path)}" for path in sorted(paths)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]


def _meaning(path: Path) -> str:
    return _module(path)["meaning"] if path.suffix == ".py" else files.sha256(path)


@cache
def _module(path: Path) -> dict[str, Any]:
    """``{"meaning", "imports", "empty"}`` of a module: a hash of what it does, dotted names of the package that it imports,
    whether there is nothing in it.

    Parsing all of them takes a second of every plan, so what was found is remembered in the user's cache under the module's
    text, Python's version and the text of this file.
    """
    content = path.read_bytes()
    known = files.cache_folder("code") / f"{hashlib.sha256(_reader() + content).hexdigest()[:32]}.json"
    try:
        return json.loads(known.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = _parse(content, path)
    with suppress(OSError):  # a cache that cannot be written to costs a second
        files.write_json(known, found)
    return found


@cache
def _reader() -> bytes:
    return platform.python_version().encode() + Path(__file__).read_bytes()


def _parse(content: bytes, path: Path) -> dict[str, Any]:
    tree = ast.parse(content, filename=str(path))
    empty = not tree.body
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:]
        elif isinstance(node, ast.Import):
            names |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {node.module} | {f"{node.module}.{a.name}" for a in node.names}
    inside = sorted(n for n in names if n.startswith(f"{PACKAGE}."))
    return {"meaning": hashlib.sha256(ast.dump(tree).encode()).hexdigest(), "imports": inside, "empty": empty}


def _file(module: str) -> Path | None:
    """File of a dotted module of the package; None for the package itself and for names that are no module."""
    parts = module.split(".")
    if len(parts) < 2:
        return None
    path = ROOT.joinpath(*parts)
    if path.with_suffix(".py").is_file():
        return path.with_suffix(".py")
    return path / "__init__.py" if (path / "__init__.py").is_file() else None


def _imports(path: Path, module: str) -> list[str]:
    """Dotted names of the package that a file imports anywhere, with the packages on the way."""
    inside = set(_module(path)["imports"])
    parents = {n.rsplit(".", depth)[0] for n in inside for depth in range(1, n.count("."))}
    return sorted((inside | parents) - {module, PACKAGE})


def plan(study: str = "mini") -> dict[str, dict[str, Any]]:
    """Every rule that `all` needs: ``{rule: {"stage", "jobs", "inputs", "outputs", "parameters", "resources"}}``.

    Paths are sorted; resources (gpu, mem_mb, runtime in minutes) are the most that a job of the rule asks for.

    Snakemake's plan is made in a process of its own: its API leaves a workflow's imports behind.
    """
    command = [sys.executable, "-m", f"{PACKAGE}.graph", "plan", "--study", study]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if result.returncode:
        raise BadInput(f"Snakemake cannot plan the {study} study: {(result.stderr or result.stdout).strip()[-600:]}")
    return json.loads(result.stdout.splitlines()[-1])


def _plan_here(study: str) -> dict[str, dict[str, Any]]:
    from snakemake.api import SnakemakeApi
    from snakemake.settings.enums import Quietness
    from snakemake.settings.types import ConfigSettings, DAGSettings, OutputSettings, ResourceSettings

    with SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api:
        workflow_api = api.workflow(
            resource_settings=ResourceSettings(cores=1),
            config_settings=ConfigSettings(config={"study": study}),
            snakefile=ROOT / "Snakefile",
        )
        dag_api = workflow_api.dag(dag_settings=DAGSettings(targets={"all"}, force_incomplete=True))
        workflow = dag_api.workflow_api._workflow  # Snakemake has no public way to the jobs and their parameters
        workflow._prepare_dag(forceall=True, ignore_incomplete=True, lock_warn_only=True)
        workflow._build_dag()
        names, code_files = workflow.globals["PARAMETER_NAMES"], workflow.globals["CODE_FILES"]
        rules: dict[str, dict[str, Any]] = {}
        for job in workflow.dag.jobs:
            stage = Path(job.rule.snakefile).stem
            node = rules.setdefault(
                job.rule.name,
                {"stage": stage, "jobs": 0, "inputs": set(), "outputs": {}, "parameters": set(), "resources": {}},
            )
            for name in ("gpu", "mem_mb", "runtime"):
                asked = job.resources.get(name, 0)
                node["resources"][name] = max(node["resources"].get(name, 0), asked if isinstance(asked, int) else 0)
            node["jobs"] += 1
            node["inputs"] |= {str(i) for i in job.input}
            node["outputs"] |= {str(o): bool(o.is_directory) for o in job.output}
            for value in job.params:
                node["parameters"] |= names.get(str(value), set())
                node["inputs"] |= set(code_files.get(str(value), ()))
        return {
            rule: {
                **node,
                "inputs": sorted(node["inputs"]),
                "outputs": dict(sorted(node["outputs"].items())),
                "parameters": sorted(node["parameters"]),
            }
            for rule, node in sorted(rules.items())
        }


def dvc_stages(rules: dict[str, dict[str, Any]], tree: dict[str, Any], study: str = "mini") -> dict[str, Any]:
    """dvc.yaml as a dictionary: one stage a rule, and one that packs what `make restore` needs in another clone.

    `persist` keeps DVC from deleting what Snakemake would find up to date; folders are named as targets beside their
    manifest, so that a lost folder is noticed.
    """
    made = {output for node in rules.values() for output in node["outputs"]}
    stages = {}
    for rule, node in rules.items():
        if rule == "all":
            continue
        targets = " ".join(_quoted(o) for o in node["outputs"])
        sources_used = [i for i in node["inputs"] if i not in node["outputs"] and (i in made or (ROOT / i).exists())]
        stage: dict[str, Any] = {
            "cmd": f"snakemake --quiet rules --allowed-rules {rule} -- {targets}",
            "deps": sorted(sources_used),
            "params": ["study", *switches(node["parameters"]), *_keys_in(tree, node["parameters"], study)],
            "outs": [],
        }
        metrics = []
        for output in node["outputs"]:
            entry = {output: {"persist": True}}
            if output.endswith("metrics.json") or output.endswith(("language.json", "check.json")):
                metrics.append(entry)
            else:
                stage["outs"].append(entry)
        stages[rule] = {key: value for key, value in {**stage, "metrics": metrics}.items() if value}
    stages["pack_provenance"] = {
        "cmd": f"python -m workflow_scripts.provenance pack --study {study}",
        "deps": [path for path in rules["all"]["inputs"] if path in made],
        "outs": [{f"results/{study}/provenance.tar": {"persist": True}}],
    }
    return {"stages": stages, "plots": dvc_plots(tree, study)}


def dvc_plots(tree: dict[str, Any], study: str) -> list[dict[str, Any]]:
    """What `dvc plots show` draws: the CSVs of the report stage, with their axes and one line a tracker."""
    chosen = params.resolve(tree, study)
    lines = [*chosen.track.trackers, *chosen.track.published, "ceiling"]
    curves = {
        "success": "overlap",
        "precision": "centre error (pixels)",
        "norm_precision": "centre error (sizes of the target)",
    }
    plots: list[dict[str, Any]] = [
        {
            name: {
                "x": "threshold",
                "y": {f"results/{study}/report/tnllt/{name}.csv": list(lines)},
                "x_label": f"{label} threshold",
            }
        }
        for name, label in curves.items()
    ]
    plots.append({"speed": {"template": "scatter", "x": "fps", "y": {f"results/{study}/report/tnllt/speed.csv": "SR"}}})
    runs = {"sft_loss": list(chosen.sft.runs), "grpo_reward": ["reward"], "tracker_loss": list(chosen.track.trained)}
    for name, columns in runs.items():
        if columns:
            plots.append({name: {"x": "step", "y": {f"results/{study}/report/training/{name}.csv": columns}}})
    return plots


def switches(names: list[str]) -> list[str]:
    """Keys outside of the sections that decide values in the sections `names`: prompts follow one switch."""
    return ["prompt_style"] if {"sft.prompt", "grpo", "grpo.pairs", "serve"} & set(names) else []


def _quoted(path: str) -> str:
    return path if re.fullmatch(r"[\w./+-]+", path) else f"'{path}'"


def _keys_in(tree: dict[str, Any], names: list[str], study: str) -> list[str]:
    """Keys of params.yaml that hold a parameter called ``stage.rest``: the shared one and the study's own."""
    keys = set()
    for name in names:
        stage, _, rest = name.partition(".")
        for prefix in (stage, f"{stage}.{study}"):
            key = f"{prefix}.{rest}" if rest else prefix
            value: Any = tree
            for part in key.split("."):
                value = value.get(part) if isinstance(value, dict) else None
            if value is not None:
                keys.add(key)
    return sorted(keys)


def dvc_text(study: str = "mini") -> str:
    """The text of dvc.yaml."""
    tree = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    head = "# Generated from the graph by `python -m workflow_scripts.graph dvc`; a test says whether it is current.\n"
    return head + yaml.safe_dump(dvc_stages(plan(study), tree, study), sort_keys=False, allow_unicode=True, width=160)


def picture(rules: dict[str, dict[str, Any]]) -> str:
    """The graph of rules as Mermaid text, one box a stage."""
    maker = {o: rule for rule, node in rules.items() for o in node["outputs"]}
    lines = ["```mermaid", "flowchart TB"]
    for stage in STAGES:
        members = [r for r, node in rules.items() if node["stage"] == stage]
        lines += [f"  subgraph {stage}", *(f"    {r}[{r.replace('_', ' ')}]" for r in members), "  end"]
    arrows = {(maker[i], rule) for rule, node in rules.items() for i in node["inputs"] if i in maker and rule != "all"}
    arrows = {(source, rule) for source, rule in arrows if source != rule}  # one training may start from another's weights
    for source in sorted({a for a, _ in arrows}):
        lines.append(f"  {source} --> {' & '.join(sorted(b for a, b in arrows if a == source))}")
    return "\n".join([*lines, "```", ""])


def readme_with(text: str, drawn: str) -> str:
    """README text with the picture between its markers replaced."""
    if not PICTURE.search(text):
        raise BadInput("README.md has lost the <!-- graph --> markers: put them back around the picture.")
    return PICTURE.sub(lambda m: m.group(1) + drawn + m.group(2), text)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="The graph as data: dvc.yaml, the README's picture, or the plan as JSON.")
    parser.add_argument("what", choices=("dvc", "picture", "plan"))
    parser.add_argument("--study", default="mini", choices=("mini", "full"), help="study to plan (default: mini)")
    arguments = parser.parse_args()
    if arguments.what == "plan":
        print(json.dumps(_plan_here(arguments.study)))
    elif arguments.what == "dvc":
        files.write_text(ROOT / "dvc.yaml", dvc_text(arguments.study))
    else:
        readme = ROOT / "README.md"
        files.write_text(readme, readme_with(readme.read_text(encoding="utf-8"), picture(plan(arguments.study))))


if __name__ == "__main__":
    console.run(main)
