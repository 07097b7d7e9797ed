"""What is missing on a cluster is said in one sentence with its remedy. Slurm's programs are small scripts here that answer
as real ones do; `tests/cluster` asks a real Slurm."""

import fcntl
import shutil
from pathlib import Path

import pytest

from workflow_scripts import preflight

DISK = shutil._ntuple_diskusage(4e12, 1e12, 3e12)
NODE = "folder yes\npython yes\ncache yes\nglibc glibc 2.34\ndriver 580.65.06\ncompiler yes\nheaders True"
PROFILE = "default-resources: [slurm_partition=cpu{more}]\nset-resources: {{train: {{slurm_partition: gpu{model}}}}}\n"
RULES = {
    "train": {"resources": {"gpu": 4, "mem_mb": 200000, "runtime": 1440}},
    "score": {"resources": {"gpu": 0, "mem_mb": 4000, "runtime": 60}},
}
# a site where nothing is missing: program -> what it prints
SITE = {
    "sbatch": "echo slurm 22.05.8",
    "squeue": "true",
    "scancel": "true",
    "sacct": "true",
    "sacctmgr": "echo vision",
    "sinfo": 'case "$*" in *" cpu "*) echo "infinite|(null)|64000" ;; *" gpu "*) echo "2-00:00:00|gpu:a100:4|515000+" ;; '
    "*--partition*) ;; *) printf 'cpu\\ngpu\\n' ;; esac",
    "srun": f"echo '{NODE}'",
    "quota": "echo '   /dev/sda1   1000000  4000000000  5000000000    9    0    0'",
    "findmnt": 'case "$*" in *FSTYPE*) echo nfs4 ;; *) echo /shared ;; esac',
}


@pytest.fixture
def site(tmp_path, monkeypatch):
    """Asks a cluster whose programs say what SITE says, or what a test says instead: {what: (ok, said)}."""
    (tmp_path / "slurm").mkdir()
    programs = tmp_path / "programs"
    programs.mkdir()
    monkeypatch.chdir(tmp_path)
    for name in ("sh", "bash", "cat", "grep", "sed", "head", "getconf"):  # none of a Slurm that may be installed here
        (programs / name).symlink_to(shutil.which(name))
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.setenv("TRACKGRAPH_ENVS", str(tmp_path / "envs"))
    monkeypatch.setattr(preflight.graph, "plan", lambda study: RULES)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: DISK)

    def ask(more="", model="", **instead):
        (tmp_path / "slurm" / "config.yaml").write_text(PROFILE.format(more=more, model=model))
        for name, body in {**SITE, **instead}.items():
            (programs / name).unlink(missing_ok=True)
            if body:
                (programs / name).write_text(f"#!/bin/sh\n{body}\n")
                (programs / name).chmod(0o755)
        return {what: (ok, said) for what, ok, said in preflight.findings()}

    return ask


def test_a_site_that_has_everything_lacks_nothing(site):
    found = site()
    assert {what for what, (ok, _) in found.items() if not ok} == set()
    assert {"executor plugin", "account", "partition cpu", "partition gpu", "a node of gpu", "quota", "file system"} <= set(
        found
    )


@pytest.mark.parametrize(
    ("what", "words", "more", "instead"),
    [
        ("job states", "slurm-status-command: squeue", "", {"sacct": "echo Slurm accounting storage is disabled >&2; exit 1"}),
        ("account", "none of yours (vision)", ", slurm_account=other", {}),
        ("partition gpu", "does not exist (there are cpu, gpu)", "", {"sinfo": SITE["sinfo"].replace('*" gpu "*', "none")}),
        ("partition gpu", "its limit is 720", "", {"sinfo": SITE["sinfo"].replace("2-00:00:00", "12:00:00")}),
        ("partition gpu", "largest node has 128000", "", {"sinfo": SITE["sinfo"].replace("515000+", "128000")}),
        ("partition gpu", "its nodes have 2", "", {"sinfo": SITE["sinfo"].replace("a100:4", "a100:2")}),
        ("partition gpu", "type h100", "", {"model": ", gpu_model: h100"}),
        ("gpu_model", "move it to set-resources", ", gpu_model=a100", {}),
        ("quota", "1 GB of 2 left on /dev/sda1", "", {"quota": "echo '/dev/sda1 1000000* 1953125 0 none 9 0 0'"}),
        ("a node of gpu", "Invalid account", "", {"srun": "echo srun: error: Invalid account or partition >&2; exit 1"}),
        ("a node of cpu", "put the project on the shared", "", {"srun": f"echo '{NODE}' | grep -v folder"}),
        ("a node of cpu", "load its module", "", {"srun": f"echo '{NODE}' | grep -v python"}),
        ("a node of cpu", "set TRACKGRAPH_ENVS", "", {"srun": f"echo '{NODE}' | grep -v cache"}),
        ("a node of cpu", "container", "", {"srun": f"echo '{NODE}' | sed s/2.34/2.17/"}),
        ("a node of gpu", "finds no GPU or driver", "", {"srun": f"echo '{NODE}' | sed 's/driver.*/driver /'"}),
        ("a node of gpu", "older than 580", "", {"srun": f"echo '{NODE}' | sed s/580.65/535.104/"}),
        ("a node of gpu", "no C compiler", "", {"srun": f"echo '{NODE}' | grep -v compiler"}),
        ("a node of gpu", "no Python.h", "", {"srun": f"echo '{NODE}' | sed s/True/False/"}),
    ],
)
def test_what_is_missing_is_said_with_its_remedy(site, what, words, more, instead):
    ok, said = site(more, **instead)[what]
    assert ok is False and words in said


def test_a_cluster_without_a_free_node_is_not_blamed(site):
    ok, said = site(srun="echo 'srun: error: Unable to allocate resources: Requested nodes are busy' >&2; exit 1")[
        "a node of gpu"
    ]
    assert ok is None and "run this again" in said


def test_the_node_is_asked_with_the_account_and_the_type_of_gpu(site):
    found = site(", slurm_account=vision", ", gpu_model: a100", srun=f'echo "$@" >> asked; {SITE["srun"]}')
    assert found["a node of gpu"][0]
    asked = Path("asked").read_text()
    assert asked.count("--account=vision") == 2 and "--gpus=a100:1" in asked


def test_a_machine_that_is_no_login_node_is_told_so(site):
    ok, said = site(srun="", sbatch="")["Slurm's programs"]
    assert not ok and "sbatch, srun not found" in said


def test_a_slurm_that_does_not_answer_is_told_and_its_error_is_read_as_no_partitions(site):
    found = site(sinfo="echo 'sinfo: error: DNS SRV lookup failed' >&2; echo 'sinfo: fatal: no configuration' >&2; exit 1")
    ok, said = found["Slurm's programs"]
    assert not ok and "no controller answers (sinfo: fatal: no configuration): run this on a login node" in said
    assert not [what for what in found if what.startswith("partition")]


def test_a_missing_plugin_is_told(site, monkeypatch):
    monkeypatch.setattr(preflight, "PLUGIN", "snakemake-executor-plugin-of-nobody")
    ok, said = site()["executor plugin"]
    assert not ok and "make setup" in said


def test_a_full_disk_is_told(site, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: DISK._replace(free=5e9))
    ok, said = site()["disk"]
    assert not ok and "5 GB free" in said


def test_a_local_file_system_is_left_to_the_nodes_to_judge(site):
    assert site(findmnt="echo ext4")["file system"][0] is None


def test_a_file_system_without_locks_is_told(site, monkeypatch):
    def refuse(handle, how):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", refuse)
    ok, said = site()["locks in ."]
    assert not ok and "mount option flock" in said


def test_what_a_node_is_asked_is_what_is_looked_for(site, tmp_path):
    """The script as a node runs it, on this machine."""
    found = site(srun='while [ "$1" != bash ]; do shift; done; exec "$@"', **{"nvidia-smi": "echo 580.65.06", "gcc": "true"})
    said = found["a node of gpu"][1]
    assert found["a node of cpu"] == (True, "sees the project and has what it needs")
    assert "driver" not in said and "does not" not in said
