# Scoring: boxes become the toolkits' numbers, numbers the study's table. `score_trackers` reads every result file once.


def scored_benchmarks():
    """Benchmarks whose ground truth is public; the others are scored by their servers."""
    return [name for name in PARAMS.track.benchmarks if name in PARAMS.score.protocols]


def scored_trackers(benchmark):
    """Trackers of a benchmark's table: those run here, then the published ones."""
    return [
        *PARAMS.track.trackers,
        *(PARAMS.track.published if benchmark == "tnllt" else ()),
    ]


def published_flag():
    """Tells a command which rows are their authors' own results."""
    names = ",".join(PARAMS.track.published)
    return ["--published", names] if names else []


def raw_manifests(wildcards):
    """Manifests of the collected boxes of every tracker on a benchmark."""
    return expand(
        "results/{study}/track/raw/{benchmark}/{tracker}.json",
        study=wildcards.study,
        benchmark=wildcards.benchmark,
        tracker=scored_trackers(wildcards.benchmark),
    )


def language_metrics(wildcards):
    """The proof that the trained tracker reads its sentence, where a tracker is trained in the graph."""
    return f"results/{wildcards.study}/track/language.json" if STUDY == "mini" else []


rule score_trackers:
    input:
        index=ancient("results/{study}/data/{benchmark}.npz"),
        indexed="results/{study}/data/{benchmark}.json",
        raw=raw_manifests,
    output:
        scores=directory("results/{study}/score/{benchmark}"),
        manifest="results/{study}/score/{benchmark}.json",
    log:
        "logs/{study}/score_trackers/{benchmark}.log",
    benchmark:
        "benchmarks/{study}/score_trackers/{benchmark}.tsv"
    wildcard_constraints:
        benchmark="|".join(scored_benchmarks()),
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        code=fingerprint(
            [*graph.sources(["score.run"]), "workflow_scripts/score/scanner.c"]
        ),
        run=env("score"),
        protocol=lambda wildcards: PARAMS.score.protocols[wildcards.benchmark],
        split=PARAMS.track.split,
        trackers=lambda wildcards: ",".join(scored_trackers(wildcards.benchmark)),
        parameters=parameters("score.run"),
    shell:
        "{params.run} workflow_scripts.score.run --protocol {params.protocol} --index {input.index:q} --split {params.split} "
        "--results results/{wildcards.study}/track/raw/{wildcards.benchmark} --trackers {params.trackers:q} "
        "--parameters {params.parameters:q} --output {output.scores:q} --manifest {output.manifest:q} > {log:q} 2>&1"


rule build_table:
    input:
        scores="results/{study}/score/tnllt.json",
        language=language_metrics,
    output:
        table="results/{study}/score/table.csv",
        manifest="results/{study}/score/table.json",
    log:
        "logs/{study}/build_table.log",
    benchmark:
        "benchmarks/{study}/build_table.tsv"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        code=code("score.table"),
        run=env("score"),
        published=published_flag(),
        language=lambda wildcards, input: (
            ["--language", input.language] if input.language else []
        ),
    shell:
        "{params.run} workflow_scripts.score.table --scores results/{wildcards.study}/score/tnllt "
        "--raw results/{wildcards.study}/track/raw/tnllt {params.published:q} {params.language:q} "
        "--output {output.table:q} --manifest {output.manifest:q} > {log:q} 2>&1"


rule publish_table:
    input:
        table=f"results/{STUDY}/score/table.csv",
        beside=f"results/{STUDY}/score/table.json",
    output:
        table=report(
            "results/tnllt_table.csv",
            caption="../report/table.rst",
            category="Scores",
            labels={"what": "table", "form": "CSV"},
        ),
        manifest="results/tnllt_table.json",
    log:
        f"logs/{STUDY}/publish_table.log",
    benchmark:
        f"benchmarks/{STUDY}/publish_table.tsv"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        code=code("score.table"),
        run=env("score"),
        study=STUDY,
        trackers=",".join(scored_trackers("tnllt")),
        split=PARAMS.track.split,
        protocol=PARAMS.score.protocols["tnllt"],
        thresholds=PARAMS.score.run.thresholds,
    shell:
        "{params.run} workflow_scripts.score.table --publish {input.table:q} --output {output.table:q} "
        "--manifest {output.manifest:q} > {log:q} 2>&1"
