# Scoring: boxes become the toolkits' numbers, numbers a table a benchmark. `score_trackers` reads every result file once.
# What only a benchmark's server can score is checked and packed for it by `pack_submission`.


def scored_benchmarks():
    """Benchmarks whose ground truth is public; the others are scored by their servers."""
    return [name for name in PARAMS.track.benchmarks if name in PARAMS.score.protocols]


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
        tracker=PARAMS.track.rows(wildcards.benchmark),
    )


def language_metrics(wildcards):
    """The proof that the trained tracker reads its sentence, where a tracker is trained in the graph."""
    shown = "dutrack" in PARAMS.track.trained and wildcards.benchmark == "tnllt"
    return f"results/{wildcards.study}/track/language.json" if shown else []


def score_outputs():
    """What `all` asks of this stage beside the study's table."""
    return expand(
        f"results/{STUDY}/score/submissions/{{benchmark}}/{{tracker}}.zip",
        benchmark=PARAMS.score.submissions,
        tracker=PARAMS.track.trackers,
    )


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
        trackers=lambda wildcards: ",".join(PARAMS.track.rows(wildcards.benchmark)),
        published=published_flag(),
        parameters=parameters("score.run"),
    shell:
        "{params.run} --code {params.code} -- "
        "python -m workflow_scripts.score.run --protocol {params.protocol} --index {input.index:q} --split {params.split} "
        "--results results/{wildcards.study}/track/raw/{wildcards.benchmark} --trackers {params.trackers:q} "
        "{params.published:q} --parameters {params.parameters:q} --output {output.scores:q} --manifest {output.manifest:q} > {log:q} 2>&1"


rule build_table:
    input:
        scores="results/{study}/score/{benchmark}.json",
        language=language_metrics,
    output:
        table="results/{study}/score/tables/{benchmark}.csv",
        manifest="results/{study}/score/tables/{benchmark}.json",
    log:
        "logs/{study}/build_table/{benchmark}.log",
    benchmark:
        "benchmarks/{study}/build_table/{benchmark}.tsv"
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
        parameters=parameters("score"),
    shell:
        "{params.run} --code {params.code} -- "
        "python -m workflow_scripts.score.table --benchmark {wildcards.benchmark} "
        "--scores results/{wildcards.study}/score/{wildcards.benchmark} "
        "--raw results/{wildcards.study}/track/raw/{wildcards.benchmark} {params.published:q} {params.language:q} "
        "--parameters {params.parameters:q} --output {output.table:q} --manifest {output.manifest:q} > {log:q} 2>&1"


rule publish_table:
    input:
        table=f"results/{STUDY}/score/tables/tnllt.csv",
        beside=f"results/{STUDY}/score/tables/tnllt.json",
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
        trackers=",".join(PARAMS.track.rows("tnllt")),
        split=PARAMS.track.split,
        protocol=PARAMS.score.protocols["tnllt"],
        thresholds=PARAMS.score.run.thresholds,
    shell:
        "{params.run} --code {params.code} -- "
        "python -m workflow_scripts.score.table --publish {input.table:q} --output {output.table:q} "
        "--manifest {output.manifest:q} > {log:q} 2>&1"


rule pack_submission:
    input:
        index=ancient("results/{study}/data/{benchmark}.npz"),
        indexed="results/{study}/data/{benchmark}.json",
        raw="results/{study}/track/raw/{benchmark}/{tracker}.json",
    output:
        zip="results/{study}/score/submissions/{benchmark}/{tracker}.zip",
        manifest="results/{study}/score/submissions/{benchmark}/{tracker}.json",
    log:
        "logs/{study}/pack_submission/{benchmark}/{tracker}.log",
    benchmark:
        "benchmarks/{study}/pack_submission/{benchmark}/{tracker}.tsv"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=20,
    params:
        code=code("score.submit"),
        run=env("score"),
        split=PARAMS.track.split,
        raw=lambda wildcards, input: input.raw.removesuffix(".json"),
    shell:
        "{params.run} --code {params.code} -- "
        "python -m workflow_scripts.score.submit --benchmark {wildcards.benchmark} --index {input.index:q} "
        "--split {params.split} --results {params.raw:q} --output {output.zip:q} --manifest {output.manifest:q} "
        "> {log:q} 2>&1"
