"""slurm/config.yaml against the plan of the full study: what it says the stages ask for is what they ask for."""

import re
from pathlib import Path

import pytest
import yaml

from workflow_scripts import graph

PROFILE = Path(__file__).parents[2] / "slurm" / "config.yaml"
# "  train_sft: *gpu   # 4 GPUs, 200 GB, 24 h" of a rule, "  # data: 4 GB, 48 h" of a stage
FIGURES = re.compile(r"^  (?:# )?(\w+): (?:(?:&gpu \{.*\}|\*gpu) +# )?(?:(\d+) GPUs?, )?([\d.]+) GB, ([\d.]+) h$", re.M)


@pytest.fixture(scope="module")
def full():
    return graph.plan("full")


def figures(gpus, megabytes, minutes):
    """As the profile writes them."""
    return gpus, round(megabytes / 1000, 1), round(minutes / 60, 1)


def test_every_rule_that_asks_for_gpus_goes_to_the_gpu_partition_and_no_other_does(full):
    profile = yaml.safe_load(PROFILE.read_text())
    placed = {rule for rule, asked in profile["set-resources"].items() if asked["slurm_partition"] == "gpu"}
    asking = {rule for rule, node in full.items() if node["resources"]["gpu"]}
    assert asking <= placed and not (placed - asking) & set(full)
    assert {"slurm_partition=cpu", "nodes=1"} <= set(profile["default-resources"])


def test_the_time_and_memory_that_the_profile_tells_are_those_of_the_rules(full):
    told = {
        name: (int(gpus or 0), float(memory), float(time)) for name, gpus, memory, time in FIGURES.findall(PROFILE.read_text())
    }
    asked = {r: figures(*(n["resources"][k] for k in ("gpu", "mem_mb", "runtime"))) for r, n in full.items()}
    by_rule = {rule: wanted for rule, wanted in asked.items() if wanted[0]}
    others = [(node["stage"], node["resources"]) for node in full.values() if not node["resources"]["gpu"]]
    by_stage = {
        stage: figures(0, *(max(r[k] for s, r in others if s == stage) for k in ("mem_mb", "runtime")))
        for stage in {s for s, _ in others} - {"Snakefile"}
    }
    assert told == by_rule | by_stage


def test_one_job_tracks_one_shard_on_one_gpu(full):
    assert full["run_tracker"]["resources"]["gpu"] == 1
    assert full["train_grpo"]["resources"]["gpu"] > 1  # in one node: it is one job
