"""The graph as planned: both studies, the three commands, and the files generated from the plan."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jsonschema  # comes with Snakemake
import pytest
import yaml

from workflow_scripts import graph, params, reference

ROOT = Path(__file__).parents[2]
SNAKEMAKE = str(Path(sys.executable).with_name("snakemake"))


def rule_blocks():
    """(file, rule, text) of every rule in rules/."""
    for path in sorted((ROOT / "rules").glob("*.smk")):
        for block in re.split(r"^(?=rule )", path.read_text(), flags=re.M)[1:]:
            yield path.name, re.match(r"rule (\w+)", block).group(1), block


@pytest.fixture(scope="module")
def mini():
    return graph.plan("mini")


@pytest.fixture(scope="module")
def full():
    return graph.plan("full")


@pytest.fixture
def clone(tmp_path):
    """A copy of the tracked files in a path with a space and a letter outside ASCII."""
    target = tmp_path / "my stüdy"
    target.mkdir()
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.decode()
    for name in listed.split("\0"):
        if name and (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target / name)
    return target


def snakemake(folder, *arguments):
    return subprocess.run([SNAKEMAKE, *arguments], cwd=folder, capture_output=True, text=True)


def test_the_table_command_plans_the_mini_study(clone):
    ended = snakemake(clone, "results/tnllt_table.csv", "-n", "--quiet", "rules")
    assert ended.returncode == 0, ended.stderr[-2000:]


def test_the_slurm_command_plans_the_full_study(clone):
    ended = snakemake(clone, "--profile", "slurm", "all", "-n")
    assert ended.returncode == 0, ended.stderr[-2000:]
    text = ended.stdout + ended.stderr
    assert "results/full/" in text and "results/mini/" not in text


def test_a_network_that_the_full_study_fetches_can_be_trained_by_its_authors_recipe(clone):
    networks = ["seqtrack_b256", "dutrack_256_full"]
    chosen = f"track={{full: {{trained: [{', '.join(networks)}]}}}}"
    targets = [f"results/full/track/weights/{name}" for name in networks]
    ended = snakemake(clone, *targets, "--dry-run", "--printshellcmds", "--config", "study=full", chosen)
    assert ended.returncode == 0, (ended.stdout + ended.stderr)[-2000:]
    commands = [line for line in ended.stdout.splitlines() if "workflow_scripts.track.train" in line and "--index" in line]
    assert len(commands) == 2 and all("torch.distributed.run --standalone --nproc-per-node" in c for c in commands)
    assert any("--initial data/full/checkpoints/mae-vit-base/mae_pretrain_vit_base.pth" in c for c in commands)


def test_both_studies_have_the_same_shape(mini, full):
    """Sizes and engines differ; what only one study has is where its raw material comes from, and whom it is sent to."""
    only_mini = {rule for rule in mini if rule not in full}
    only_full = {rule for rule in full if rule not in mini}
    assert only_mini <= {"render_archive", "train_tracker", "probe_language"}, only_mini
    fetched = {
        "fetch_benchmark",
        "fetch_checkpoint",
        "convert_checkpoint",
        "fetch_published",
        "import_published",
        "fetch_easyr1",
    }
    assert only_full <= {*fetched, "export_sft", "pack_submission"}, only_full


def test_every_stage_of_the_study_is_planned(mini):
    assert {node["stage"] for rule, node in mini.items() if rule != "all"} == set(graph.STAGES)


@pytest.mark.parametrize(("file", "rule", "block"), [pytest.param(*b, id=b[1]) for b in rule_blocks()])
def test_every_rule_has_log_benchmark_resources_and_a_manifest(file, rule, block):
    for section in ("output:", "log:", "benchmark:", "resources:", "params:", "shell:"):
        assert f"    {section}" in block, f"{file}: {rule} has no {section}"
    assert re.search(r"^        code=", block, re.M), f"{file}: {rule} does not name its code"
    assert re.search(r"mem_mb=", block) and re.search(r"runtime=", block), f"{file}: {rule} asks for no mem_mb or runtime"
    assert ".json" in block, f"{file}: {rule} writes no manifest"
    sections = ("input", "output", "log", "benchmark", "resources", "params", "shell")
    order = [block.index(f"    {s}:") for s in sections if f"    {s}:" in block]
    assert order == sorted(order), f"{file}: the sections of {rule} are out of order"


def test_dvc_yaml_is_generated_from_this_graph():
    assert (ROOT / "dvc.yaml").read_text() == graph.dvc_text(), "run `python -m workflow_scripts.graph dvc`"


def test_the_readme_shows_this_graph(mini):
    readme = (ROOT / "README.md").read_text()
    assert graph.readme_with(readme, graph.picture(mini)) == readme, "run `python -m workflow_scripts.graph picture`"
    assert len(readme.splitlines()) < 200


def test_the_parameter_reference_is_generated_from_these_models():
    for path, text in reference.pages().items():
        assert path.read_text() == text, reference.REMEDY


def test_params_yaml_satisfies_the_published_schema():
    schema = json.loads((ROOT / "docs" / "params.schema.json").read_text())
    tree = yaml.safe_load((ROOT / "params.yaml").read_text())
    jsonschema.validate(tree, schema)
    tree["track"]["mini"]["no_such_key"] = 1
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(tree, schema)


def test_an_unknown_parameter_ends_the_command_with_one_sentence(clone):
    text = (clone / "params.yaml").read_text()
    (clone / "params.yaml").write_text(text.replace("\ntrack:", "\ntracks: {}\ntrack:"))
    ended = snakemake(clone, "results/tnllt_table.csv", "-n")
    assert ended.returncode != 0
    assert "unknown parameter tracks; did you mean track?" in ended.stdout + ended.stderr
    assert not (clone / "results").exists()


def test_a_benchmark_that_nobody_described_ends_the_command_with_one_sentence(clone):
    text = (clone / "params.yaml").read_text()
    (clone / "params.yaml").write_text(text.replace("benchmarks: [tnllt, ", "benchmarks: [tnllt, vot2021, ", 1))
    ended = snakemake(clone, "all", "-n", "--config", "study=full")
    assert ended.returncode != 0
    assert "parameter data.benchmarks: there is no benchmark vot2021; did you mean vot2020?" in ended.stdout + ended.stderr


NARROWER = {
    "two trackers that nobody trained": ("mini", {"track": {"trackers": ["static", "kcf"], "trained": []}}),
    "one network": ("mini", {"track": {"trackers": ["static", "dutrack"], "trained": ["dutrack"]}}),
    "TNLLT alone": (
        "full",
        {
            "data": {"benchmarks": ["tnllt"]},
            "track": {"benchmarks": ["tnllt"], "trackers": ["csrt"], "describers": {}, "published": {}},
            "grpo": {"pairs": {"guarded": ["tnllt"]}},
            "score": {"protocols": {"tnllt": "tnllt"}, "submissions": []},
        },
    ),
}


@pytest.mark.parametrize(("study", "changes"), NARROWER.values(), ids=NARROWER)
def test_a_narrower_study_is_planned(clone, study, changes):
    tree = params.read_tree(clone / "params.yaml")
    for section, values in {**changes, "report": {"figures": {"pair": []}}}.items():
        for key, value in values.items():
            nested = isinstance(value, dict) and section in ("grpo", "report")  # other mappings are replaced whole
            tree[section][study][key] = {**tree[section][study][key], **value} if nested else value
    (clone / "params.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
    ended = snakemake(clone, "all", "-n", "--quiet", "rules", "--config", f"study={study}")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    asked = ended.stdout + ended.stderr
    assert "publish_table" in asked and ("train_tracker" in asked) == bool(changes["track"].get("trained"))


def test_every_rules_command_is_a_module_that_exists():
    for file, rule, block in rule_blocks():
        for module in re.findall(r"(workflow_scripts\.[a-z0-9_.]+)", block.split("shell:")[1]):
            assert graph.sources([module.removeprefix("workflow_scripts.")]), f"{file}: {rule}"
