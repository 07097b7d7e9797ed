# The report: figures, the CSVs they were drawn from (also for `dvc plots`), tables for papers, a page that shows sequences;
# captions are in report/.
# `snakemake --report report.html` puts them into one page.

CURVES = ["success", "precision", "norm_precision"]
FIGURES = [
    *CURVES,
    "attribute_radar",
    "attribute_bars",
    "intervals",
    "pair",
    "timeline",
    "speed",
]
TRAINING = ["sft_loss", "grpo_reward", "tracker_loss"]


def other_formats(folder, names):
    """Files of the same figures in the formats that the report page does not show."""
    kinds = [kind for kind in PARAMS.report.figures.formats if kind != "svg"]
    return expand(
        "results/{{study}}/report/{folder}/{name}.{kind}",
        folder=folder,
        name=names,
        kind=kinds,
    )


def shown(name, caption, what):
    """A figure that the report page shows, under Training or under the scores of its benchmark."""
    training = name.startswith("training/")
    return report(
        f"results/{{study}}/report/{name}.svg",
        caption=f"../report/{caption}.rst",
        category="Training" if training else "Scores",
        subcategory=None if training else "{benchmark}",
        labels={"what": what, "form": "figure"},
    )


def sft_runs():
    """Label sets of the supervised models that the study trains."""
    return list(PARAMS.sft.runs)


def report_outputs():
    """What `all` asks of this stage."""
    return [
        *expand(
            f"results/{STUDY}/report/{{benchmark}}.json",
            benchmark=scored_benchmarks(),
        ),
        *expand(
            f"results/{STUDY}/report/{{what}}/{{benchmark}}.json",
            what=["tables", "viewer"],
            benchmark=scored_benchmarks(),
        ),
        f"results/{STUDY}/report/training.json",
    ]


rule plot_scores:
    input:
        scores="results/{study}/score/{benchmark}.json",
        raw=raw_manifests,
        index=ancient("results/{study}/data/{benchmark}.npz"),
        indexed="results/{study}/data/{benchmark}.json",
    output:
        figures=[
            shown("{benchmark}/success", "curves", "success"),
            shown("{benchmark}/precision", "curves", "precision"),
            shown("{benchmark}/norm_precision", "curves", "normalised precision"),
            shown("{benchmark}/attribute_radar", "attributes", "attributes, radar"),
            shown("{benchmark}/attribute_bars", "attributes", "attributes, all"),
            shown("{benchmark}/intervals", "intervals", "how sure the scores are"),
            shown("{benchmark}/pair", "pair", "two trackers by sequence"),
            shown("{benchmark}/timeline", "timeline", "failures along time"),
            shown("{benchmark}/speed", "speed", "speed against accuracy"),
        ],
        others=other_formats("{benchmark}", FIGURES),
        data=expand(
            "results/{{study}}/report/{{benchmark}}/{name}.csv",
            name=[*CURVES, "attributes", "intervals", "pair", "timeline", "speed"],
        ),
        manifest="results/{study}/report/{benchmark}.json",
    log:
        "logs/{study}/plot_scores/{benchmark}.log",
    benchmark:
        "benchmarks/{study}/plot_scores/{benchmark}.tsv"
    wildcard_constraints:
        benchmark="|".join(scored_benchmarks()),
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        code=code("report.figures"),
        run=env("report"),
        protocol=lambda wildcards: PARAMS.score.protocols[wildcards.benchmark],
        thresholds=PARAMS.score.run.thresholds,
        split=PARAMS.track.split,
        published=published_flag(),
        radar=PARAMS.report.figures.radar,
        samples=PARAMS.score.run.samples,
        pair=PARAMS.report.figures.pair,
        timelines=PARAMS.report.figures.timelines,
        parameters=parameters("report.figures"),
    shell:
        "{params.run} --code {params.code} -- "
        "python -m workflow_scripts.report.figures --scores results/{wildcards.study}/score/{wildcards.benchmark} "
        "--raw results/{wildcards.study}/track/raw/{wildcards.benchmark} {params.published:q} --index {input.index:q} "
        "--split {params.split} --parameters {params.parameters:q} "
        "--output results/{wildcards.study}/report/{wildcards.benchmark} "
        "--manifest {output.manifest:q} > {log:q} 2>&1"


rule plot_training:
    input:
        sft=expand("results/{{study}}/sft/{labels}/model.json", labels=sft_runs()),
        grpo="results/{study}/grpo/reward.csv",
        tracker=expand(
            "results/{{study}}/track/weights/{network}.json",
            network=PARAMS.track.trained,
        ),
    output:
        figures=[
            shown("training/sft_loss", "training", "loss of the supervised models"),
            shown("training/grpo_reward", "training", "reward of GRPO"),
            shown("training/tracker_loss", "training", "loss of the trackers"),
        ],
        others=other_formats("training", TRAINING),
        data=expand(
            "results/{{study}}/report/training/{name}.csv",
            name=TRAINING,
        ),
        manifest="results/{study}/report/training.json",
    log:
        "logs/{study}/plot_training.log",
    benchmark:
        "benchmarks/{study}/plot_training.tsv"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        code=code("report.training"),
        run=env("report"),
        sft=[f"{run}=results/{STUDY}/sft/{run}/model/loss.csv" for run in sft_runs()],
        tracker=[
            f"{network}=results/{STUDY}/track/weights/{network}/loss.csv"
            for network in PARAMS.track.trained
        ],
        engine=PARAMS.grpo.engine,
        start_from=PARAMS.grpo.start_from,
        parameters=parameters("report.figures"),
    shell:
        "{params.run} --code {params.code} -- "
        "python -m workflow_scripts.report.training --sft {params.sft:q} --grpo {input.grpo:q} --tracker {params.tracker:q} "
        "--parameters {params.parameters:q} --output results/{wildcards.study}/report/training "
        "--manifest {output.manifest:q} > {log:q} 2>&1"


rule write_tables:
    input:
        table="results/{study}/score/tables/{benchmark}.csv",
    output:
        tables=directory("results/{study}/report/tables/{benchmark}"),
        manifest="results/{study}/report/tables/{benchmark}.json",
    log:
        "logs/{study}/write_tables/{benchmark}.log",
    benchmark:
        "benchmarks/{study}/write_tables/{benchmark}.tsv"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        code=code("report.tables"),
        run=env("report"),
    shell:
        "{params.run} --code {params.code} -- "
        "python -m workflow_scripts.report.tables --table {input.table:q} --output {output.tables:q} "
        "--manifest {output.manifest:q} > {log:q} 2>&1"


rule write_viewer:
    input:
        scores="results/{study}/score/{benchmark}.json",
        raw=raw_manifests,
        index=ancient("results/{study}/data/{benchmark}.npz"),
        indexed="results/{study}/data/{benchmark}.json",
        template="workflow_scripts/report/viewer.html",
    output:
        page=report(
            "results/{study}/report/viewer/{benchmark}.html",
            caption="../report/viewer.rst",
            category="Scores",
            subcategory="{benchmark}",
            labels={"what": "sequences", "form": "page"},
        ),
        manifest="results/{study}/report/viewer/{benchmark}.json",
    log:
        "logs/{study}/write_viewer/{benchmark}.log",
    benchmark:
        "benchmarks/{study}/write_viewer/{benchmark}.tsv"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=20,
    params:
        code=code("report.viewer"),
        run=env("report"),
        split=PARAMS.track.split,
        sequences=PARAMS.report.viewer.sequences,
        trackers=PARAMS.report.viewer.trackers,
        parameters=parameters("report.viewer"),
    shell:
        "{params.run} --code {params.code} -- "
        "python -m workflow_scripts.report.viewer --scores results/{wildcards.study}/score/{wildcards.benchmark} "
        "--raw results/{wildcards.study}/track/raw/{wildcards.benchmark} --index {input.index:q} --split {params.split} "
        "--title {wildcards.benchmark} --parameters {params.parameters:q} --output {output.page:q} "
        "--manifest {output.manifest:q} > {log:q} 2>&1"
