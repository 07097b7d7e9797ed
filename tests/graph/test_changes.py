"""A changed parameter or module of the finished study: the nodes that read it run, and what follows them, and no other.

The nodes that read it are written down here by hand (`rule`, or `rule:part of its output's path`); what follows them is
read off the graph's arrows. Every other node must stay.
"""

import pytest

from tests.graph.arrows import followers, names

ASKING = ["run_tracker:reasoningtrack", "run_tracker:r1track"]
PARAMETERS = [
    ("data.mini.render.seed", 1, ["render_archive"]),
    ("data.fetch.attempts", 6, ["fetch_part"]),
    ("data.check.max_absent_share", 0.6, ["check_benchmark"]),
    ("sft.mini.annotations.seed", 8, ["make_annotations"]),
    ("sft.mini.runs.noised.rows.label_noise", 0.4, ["rewrite_annotations:noised"]),
    ("sft.mini.runs.clean.recipe.arguments.warmup_ratio", 0.2, ["configure_sft:clean"]),
    ("sft.mini.evaluate.batch", 16, ["evaluate_sft"]),
    ("grpo.mini.pairs.validation", 9, ["build_pairs", "configure_grpo"]),
    ("grpo.mini.trl.steps", 3, ["configure_grpo"]),
    ("serve.mini.sampling.max_tokens", 65, ["check_server", *ASKING]),
    ("track.mini.train.seqtrack.steps", 7, ["train_tracker:seqtrack"]),
    ("track.mini.run.batch", 4, ["run_tracker", "probe_language"]),
    ("track.mini.reasoning.view_size", 84, ["run_tracker:reasoningtrack"]),
    ("track.mini.r1track.max_tokens", 25, ["run_tracker:r1track"]),
    ("track.mini.language.gate", 0.2, ["probe_language"]),
    ("score.run.samples", 1000, ["score_trackers", "build_table", "plot_scores"]),
    ("report.mini.figures.dots", 90, ["plot_scores", "plot_training"]),
    ("report.viewer.quality", 50, ["write_viewer"]),
    ("track.full.run.shards", 9, []),
    ("sft.full.evaluate.batch", 4, []),
]
MODULES = [
    ("data/layouts/tnllt.py", ["index_benchmark", "check_benchmark"]),
    ("data/layouts/lasot.py", []),
    ("data/restore.py", ["restore_archive"]),
    ("sft/rewrite.py", ["rewrite_annotations"]),
    ("sft/evaluate.py", ["evaluate_sft"]),
    ("grpo/check.py", ["check_merge"]),
    ("serve/guard.py", ["check_server"]),
    ("serve/client.py", ["check_server", *ASKING]),
    ("serve/transformers_server.py", ["check_server", *ASKING]),
    ("track/language.py", ["probe_language"]),
    ("track/trackers/r1track.py", ["run_tracker:r1track"]),
    ("track/trackers/seqtrack.py", ["run_tracker:seqtrack"]),
    ("score/scanner.c", ["score_trackers"]),
    ("score/table.py", ["build_table", "publish_table"]),
    ("report/viewer.html", ["write_viewer"]),
    ("report/tables.py", ["write_tables"]),
]


def chosen(jobs, readers):
    """The jobs that `readers` name; each must name one."""
    found = set()
    for rule, _, part in (reader.partition(":") for reader in readers):
        named = {job for job in jobs if job.rule == rule and part in job.outputs[0]}
        assert named, f"no job is called {rule}:{part}"
        found |= named
    return found


def with_followers(jobs, first):
    """Jobs and all that follows them."""
    return first | followers(jobs, [output for job in first for output in job.outputs])


@pytest.mark.parametrize(("name", "value", "readers"), [pytest.param(*p, id=p[0]) for p in PARAMETERS])
def test_a_changed_parameter_reruns_the_nodes_that_read_it_and_what_follows_them(planner, jobs, name, value, readers):
    config = value
    for key in reversed(name.split(".")):
        config = {key: config}
    first = chosen(jobs, readers)
    runs = planner.runs(["all"], config)
    assert names(runs) == names(with_followers(jobs, first))
    behind = followers(jobs, [output for job in first for output in job.outputs])
    told = {job.outputs for job in runs if "Params have changed" in job.because}
    assert told >= {job.outputs for job in first - behind}  # the others run for what they read in any case


@pytest.mark.parametrize(("module", "readers"), [pytest.param(*m, id=m[0]) for m in MODULES])
def test_edited_code_reruns_the_nodes_that_run_it_and_what_follows_them(study, planner, jobs, module, readers):
    path = study / "workflow_scripts" / module
    text = path.read_text()
    try:
        path.write_text(
            text + {".py": "\nCHANGED = True\n", ".c": "\nint changed;\n", ".html": "<!-- changed -->\n"}[path.suffix]
        )
        assert names(planner.runs(["all"])) == names(with_followers(jobs, chosen(jobs, readers)))
    finally:
        path.write_text(text)


def test_edited_comments_and_docstrings_of_every_module_rerun_nothing(study, planner):
    modules = sorted((study / "workflow_scripts").rglob("*.py"))
    assert len(modules) > 100
    texts = {path: path.read_text() for path in modules}
    try:
        for path, text in texts.items():
            path.write_text("# another comment\n" + text.replace('"""\n', ' Said otherwise."""\n', 1))
        assert names(planner.runs(["all"])) == []
    finally:
        for path, text in texts.items():
            path.write_text(text)


def test_jobs_grow_with_shards_and_not_with_sequences(planner, jobs):
    trackers = sum(job.rule == "run_tracker" for job in jobs)
    many = planner.jobs(["all"], {"data": {"mini": {"render": {"test_sequences": 2000}}}})
    assert len(many) == len(jobs)
    sharded = planner.jobs(["all"], {"track": {"mini": {"run": {"shards": 5}}}})
    assert len(sharded) == len(jobs) + 4 * trackers
