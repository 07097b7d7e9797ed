"""The whole graph, every node for real, at its smallest, in a path with a space and a letter outside ASCII.

One run serves all tests: they look at what it left, ask again, break things and ask once more.
"""

import csv
import json
import os
import shutil
import signal
import subprocess
import time

import pytest

from tests.graph.smallest import BIN, CONFIG, ask, call, manifests, planned, started
from workflow_scripts import manifest


def table(folder):
    """Rows of the study's table by tracker."""
    with open(folder / "results" / "tnllt_table.csv", newline="") as handle:
        return {row["tracker"]: row for row in csv.DictReader(handle)}


def test_the_table_has_a_row_for_every_tracker(study):
    rows = table(study)
    assert set(rows) == {"static", "kcf", "csrt", "seqtrack", "dutrack", "reasoningtrack", "r1track"}
    assert all(row["source"] == "run here" and int(row["sequences"]) == 2 for row in rows.values())
    scores = [float(row["SR"]) for row in rows.values()]
    assert scores == sorted(scores, reverse=True)


def test_r1track_asks_the_served_model_about_every_frame_and_its_fall_backs_are_in_the_table(study):
    row = table(study)["r1track"]
    assert int(row["VLM calls"]) == int(row["frames"]) - int(row["sequences"])
    traces = (study / "results/mini/track/raw/tnllt/r1track").glob("*.trace.jsonl")
    asked = [json.loads(line) for trace in traces for line in trace.read_text().splitlines()]
    assert int(row["fall-backs"]) == sum(line["fall_back"] for line in asked)
    assert len(asked) == int(row["VLM calls"])


def test_a_second_call_runs_no_job(study):
    assert planned(study, "all") == []
    ended = ask(study, "results/tnllt_table.csv")
    assert ended.returncode == 0 and "Nothing to be done" in ended.stdout + ended.stderr


def test_every_manifest_of_the_study_is_true(study):
    found = manifests(study)
    assert len(found) > 20
    for path in found:
        manifest.verify(path)


def test_touching_files_reruns_nothing(study):
    for path in (study / "results" / "mini").rglob("*.json"):
        os.utime(path)
    assert planned(study, "all") == []


def test_editing_a_comment_reruns_nothing_and_editing_code_its_stage_alone(study):
    module = study / "workflow_scripts" / "report" / "tables.py"
    text = module.read_text()
    try:
        module.write_text("# another comment\n" + text)
        assert planned(study, "all") == []
        module.write_text(text + "\nCHANGED = True\n")
        assert set(planned(study, "all")) == {"write_tables", "all"}
    finally:
        module.write_text(text)


@pytest.mark.parametrize(
    ("file", "comment", "node", "target"),
    [
        ("score/scanner.c", "/* another */", "score_trackers", "results/mini/score/tnllt"),
        ("data/layouts/tnllt.py", "CHANGED = True", "check_benchmark", "results/mini/data/tnllt.check.json"),
    ],
)
def test_code_beside_a_commands_imports_is_run_after_an_edit_and_not_given_back(study, file, comment, node, target):
    path, log = study / "workflow_scripts" / file, study / "logs" / "mini" / node / "tnllt.log"
    text = path.read_text()
    try:
        for edited in (f"{text}\n{comment}\n", text):
            path.write_text(edited)
            ended = ask(study, target)
            assert ended.returncode == 0, ended.stderr[-3000:]
            assert started(ended.stdout + ended.stderr) == [node]
            assert "given back" not in log.read_text()
    finally:
        path.write_text(text)
    assert planned(study, "all") == []


def test_a_node_that_makes_the_same_again_stops_there(study):
    """The archive is rendered anew, byte for byte the same: what lies below looks, and gives its outputs back."""
    inode = (study / "results/mini/track/weights/dutrack/weights.safetensors").stat().st_ino
    ended = ask(study, "all", flags=("--forcerun", "render_archive"))
    assert ended.returncode == 0, ended.stderr[-3000:]
    logs = {p: p.read_text() for p in (study / "logs" / "mini").rglob("*.log")}
    back = {p.relative_to(study / "logs" / "mini").parts[0].removesuffix(".log") for p, t in logs.items() if "given back" in t}
    assert {"restore_archive", "train_tracker", "run_tracker", "collect_results", "score_trackers"} <= back
    assert "render_archive" not in back
    assert (study / "results/mini/track/weights/dutrack/weights.safetensors").stat().st_ino == inode
    assert planned(study, "all") == []


def test_the_table_leads_back_to_its_sources_and_every_step_verifies(study):
    shown = call(study, "python", "-m", "workflow_scripts.provenance", "show", "results/tnllt_table.csv")
    assert shown.returncode == 0 and "workflow_scripts.track.train" in shown.stdout and "data.render" in shown.stdout
    ended = call(study, "python", "-m", "workflow_scripts.provenance", "verify", "results/tnllt_table.csv")
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_a_lost_folder_is_noticed_and_only_its_node_rebuilt(study):
    before = table(study)
    shutil.rmtree(study / "results" / "mini" / "track" / "raw" / "tnllt" / "static")
    ended = ask(study, "results/mini/track/raw/tnllt/static")
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert (ended.stdout + ended.stderr).count("rule collect_results:") == 1
    assert "rule run_tracker:" not in ended.stdout + ended.stderr
    assert ask(study, "all").returncode == 0
    after = table(study)
    assert {t: r["SR"] for t, r in before.items()} == {t: r["SR"] for t, r in after.items()}


def test_a_changed_parameter_reruns_what_reads_it_and_what_follows(study):
    ended = ask(study, "all", flags=("--dry-run", "--config", "report={mini: {figures: {dots: 90}}}"))
    text = ended.stdout + ended.stderr
    assert ended.returncode == 0, text
    assert "rule plot_scores:" in text
    assert "rule train_tracker:" not in text and "rule score_trackers:" not in text


def processes(folder):
    """Command lines of what runs in or on the clone, without the tests themselves."""
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout
    return [line for line in listed.splitlines() if str(folder) in line and "pytest" not in line]


def test_a_killed_snakemake_takes_its_jobs_along_and_the_same_command_finishes(study):
    """SIGKILL, for the main process alone, in the middle of a tracker's shard: no lock to remove, no orphan, no row changed."""
    before = table(study)
    shards = study / "results" / "mini" / "track" / "shards" / "tnllt"
    shutil.rmtree(shards / "csrt")
    command = ["snakemake", "results/mini/track/shards/tnllt/csrt/0", "--configfile", CONFIG, "--cores", "1"]
    environment = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    child = subprocess.Popen(
        command, cwd=study, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    end = time.monotonic() + 120
    while not list(shards.glob("csrt/.0.unfinished/identity.json")) and time.monotonic() < end:
        time.sleep(0.05)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    end = time.monotonic() + 10
    while "workflow_scripts.track.run" in "".join(running := processes(study)) and time.monotonic() < end:
        time.sleep(0.1)
    assert not [line for line in running if "track.run" in line]
    (shards / "csrt" / ".0.json.7.tmp").write_text("half")  # as if it had died in the middle of a write
    ended = ask(study, "results/mini/track/shards/tnllt/csrt/0", "all")
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert not [*shards.rglob(".*unfinished*"), *shards.rglob(".*.tmp")]
    assert {t: r["SR"] for t, r in before.items()} == {t: r["SR"] for t, r in table(study).items()}


def test_the_report_is_one_page_with_the_table_and_the_figures(study):
    ended = ask(study, "all", flags=("--report", "report.html"))
    assert ended.returncode == 0, ended.stderr[-3000:]
    page = (study / "report.html").read_text(errors="ignore")
    assert "tnllt_table.csv" in page and "Training" in page


def test_nothing_of_the_study_is_left_running(study):
    assert processes(study) == []
