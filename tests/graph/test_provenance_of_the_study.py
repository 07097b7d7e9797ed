"""What made the study: every node's record, the chain from the table to its sources, and whatever was altered by its name."""

import json
import re

import pytest

from tests.graph.disturb import edited, manifest_of
from tests.graph.smallest import call
from workflow_scripts import graph
from workflow_scripts.node import SUFFIX

TABLE = "results/tnllt_table.csv"


def provenance(study, verb):
    """The command's end."""
    return call(study, "python", "-m", "workflow_scripts.provenance", verb, TABLE)


def test_every_node_says_what_made_it(study, jobs):
    head = call(study, "git", "rev-parse", "--short=12", "HEAD").stdout.strip()
    for job in (job for job in jobs if job.rule != "all"):
        manifest = study / manifest_of(study, job)
        record, made = json.loads(manifest.with_suffix(SUFFIX).read_text()), json.loads(manifest.read_text())
        assert sorted(record["makes"]) == list(job.outputs)
        assert record["commit"].rstrip("+") == head and record["code"] == graph.fingerprint(job.code)
        assert re.fullmatch(r"[0-9a-f]{64}", record["lock"]) and made["environment"] == record["environment"]
        assert record["device"] and record["seconds"] >= 0 and re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ", record["began"])
        read = {path: digest for path, digest in record["reads"].items() if (study / path).is_file()}
        assert set(record["reads"]) == {*job.watched, *job.ancient} and all(len(d) == 64 for d in read.values())
        assert made["outputs"] and all(len(o["sha256"]) == 64 for o in made["outputs"].values())
        assert any(part.startswith("workflow_scripts.") for part in record["command"])  # with all its parameters


def test_the_table_leads_back_to_every_stage_and_to_its_sources(study):
    ended = provenance(study, "show")
    assert ended.returncode == 0, ended.stderr
    said = re.sub(r"[│├└─\s]+", " ", ended.stdout)
    assert {stage for stage in graph.STAGES if f"workflow_scripts.{stage}." in said} == {
        "data",
        "sft",
        "grpo",
        "track",
        "score",
    }
    assert "workflow_scripts/data/benchmarks/tnllt.yaml made by no node SHA-256 " in said
    for word in ("commit ", "environment track-", "lock ", "code ", "parameters {", "made model: ", " files, ", " s on "):
        assert word in said, word


def test_a_whole_chain_verifies(study):
    ended = provenance(study, "verify")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert int(re.search(r"(\d+) nodes hashed again", ended.stdout).group(1)) > 30


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("results/mini/grpo/model/config.json", "grpo/model is not what results/mini/grpo/model.json says"),
        (
            "data/mini/parts/TNLLT_inventory.txt",
            "TNLLT_inventory.txt is not what data/mini/parts/TNLLT_inventory.txt.json says",
        ),
        ("results/mini/track/weights/dutrack.json", "made from another results/mini/track/weights/dutrack.json than"),
        ("workflow_scripts/data/benchmarks/tnllt.yaml", "made from another workflow_scripts/data/benchmarks/tnllt.yaml than"),
    ],
)
def test_whatever_is_altered_is_named(study, path, said):
    with edited(study, path, lambda text: text + "\n"):
        ended = provenance(study, "verify")
    assert ended.returncode == 1 and said in ended.stdout, ended.stdout + ended.stderr
