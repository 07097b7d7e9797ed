# Tracking: weights are trained (mini) or fetched and converted (full); trackers run by shard, a job a shard; shards are collected.
# The same folder, results/{study}/track/raw/{benchmark}/{tracker}, holds what the authors published, where it is re-scored.

CLASSIC = ("static", "kcf", "csrt", "mosse")
NETWORKS = {
    tracker: PARAMS.track.reasoning.network if tracker == "reasoningtrack" else tracker
    for tracker in PARAMS.track.trackers
    if tracker not in CLASSIC
}


def needs(wildcards):
    """Manifests of the weights, and of the language model, that a tracker runs with."""
    folder = f"results/{STUDY}"
    if wildcards.tracker in NETWORKS:
        yield f"{folder}/track/weights/{NETWORKS[wildcards.tracker]}.json"
    if wildcards.tracker == "reasoningtrack":
        yield f"{folder}/grpo/model.json"


def flags(wildcards):
    """What only some trackers are told: weights; the language model, how it is served, and when it is asked."""
    folder = f"results/{STUDY}"
    said = []
    if wildcards.tracker in NETWORKS:
        said += ["--weights", f"{folder}/track/weights/{NETWORKS[wildcards.tracker]}"]
    if wildcards.tracker == "reasoningtrack":
        said += ["--server-model", f"{folder}/grpo/model", "--server-parameters", parameters("serve")]
        said += ["--reasoning-parameters", parameters("track.reasoning")]
    return said


def tracker_code(wildcards):
    """Modules of a tracker's job: editing a network does not rerun OpenCV's trackers."""
    modules = ["track.run"]
    if wildcards.tracker in NETWORKS:
        modules += ["track.trackers.seqtrack" if wildcards.tracker.startswith("seqtrack") else "track.trackers.reasoningtrack"]
    else:
        modules += ["track.trackers.classic"]
    return code(*modules)


rule train_tracker:
    input:
        index="results/{study}/data/tnllt.npz",
        code=code("track.train"),
    output:
        weights=directory("results/{study}/track/weights/{network}"),
        manifest="results/{study}/track/weights/{network}.json",
    wildcard_constraints:
        network="|".join(PARAMS.track.trained) or "none",
    log:
        "logs/{study}/train_tracker/{network}.log",
    benchmark:
        "benchmarks/{study}/train_tracker/{network}.tsv"
    threads: 1
    resources:
        mem_mb=3000,
        runtime=30 if STUDY == "mini" else 4320,
        gpu=gpus(),
    params:
        run=env("track"),
        parameters=parameters("track.train"),
    shell:
        "{params.run} workflow_scripts.track.train --index {input.index:q} --split train --parameters {params.parameters:q} "
        "--output {output.weights:q} --manifest {output.manifest:q} > {log:q} 2>&1"


rule fetch_checkpoint:
    input:
        register="data/sources.yaml",
        code=code("data.fetch"),
    output:
        checkpoint=directory("data/{study}/checkpoints/{network}"),
        manifest="data/{study}/checkpoints/{network}.json",
    wildcard_constraints:
        network="|".join(PARAMS.track.checkpoints) or "none",
    log:
        "logs/{study}/fetch_checkpoint/{network}.log",
    benchmark:
        "benchmarks/{study}/fetch_checkpoint/{network}.tsv"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=240,
    params:
        run=env("data"),
        source=lambda wildcards: PARAMS.track.checkpoints[wildcards.network],
    shell:
        "{params.run} workflow_scripts.data.fetch --source {params.source:q} "
        "--output {output.checkpoint:q} --manifest {output.manifest:q} > {log:q} 2>&1"


rule convert_checkpoint:
    input:
        checkpoint="data/{study}/checkpoints/{network}.json",
        code=code("track.convert"),
    output:
        weights=directory("results/{study}/track/weights/{network}"),
        manifest="results/{study}/track/weights/{network}.json",
    wildcard_constraints:
        network="|".join(PARAMS.track.checkpoints) or "none",
    log:
        "logs/{study}/convert_checkpoint/{network}.log",
    benchmark:
        "benchmarks/{study}/convert_checkpoint/{network}.tsv"
    threads: 1
    resources:
        mem_mb=8000,
        runtime=30,
    params:
        run=env("track"),
        cased=lambda wildcards: "--cased" if PARAMS.track.cased else "",
    shell:
        "{params.run} workflow_scripts.track.convert --checkpoint data/{wildcards.study}/checkpoints/{wildcards.network} "
        "--variant {wildcards.network} {params.cased} --output {output.weights:q} --manifest {output.manifest:q} > {log:q} 2>&1"


rule run_tracker:
    input:
        needs,
        index="results/{study}/data/{benchmark}.npz",
        code=tracker_code,
    output:
        shard=directory("results/{study}/track/shards/{benchmark}/{tracker}/{shard}"),
        manifest="results/{study}/track/shards/{benchmark}/{tracker}/{shard}.json",
    wildcard_constraints:
        tracker="|".join(PARAMS.track.trackers),
        shard=r"\d+",
    log:
        "logs/{study}/run_tracker/{benchmark}/{tracker}/{shard}.log",
    benchmark:
        "benchmarks/{study}/run_tracker/{benchmark}/{tracker}/{shard}.tsv"
    threads: 1
    resources:
        mem_mb=lambda wildcards: 6000 if wildcards.tracker == "reasoningtrack" else 2000,
        runtime=60 if STUDY == "mini" else 1440,
        gpu=gpus(),
    params:
        run=env("track"),
        split=PARAMS.track.split,
        shards=PARAMS.track.run.shards,
        flags=flags,
        parameters=parameters("track.run"),
    shell:
        "{params.run} workflow_scripts.track.run --tracker {wildcards.tracker} --index {input.index:q} "
        "--benchmark {wildcards.benchmark} --split {params.split} --shard {wildcards.shard} --shards {params.shards} "
        "{params.flags:q} --parameters {params.parameters:q} "
        "--output {output.shard:q} --manifest {output.manifest:q} > {log:q} 2>&1"


rule collect_results:
    input:
        shards=expand(
            "results/{{study}}/track/shards/{{benchmark}}/{{tracker}}/{shard}.json",
            shard=range(PARAMS.track.run.shards),
        ),
        index="results/{study}/data/{benchmark}.npz",
        code=code("track.collect"),
    output:
        raw=directory("results/{study}/track/raw/{benchmark}/{tracker}"),
        manifest="results/{study}/track/raw/{benchmark}/{tracker}.json",
    wildcard_constraints:
        tracker="|".join(PARAMS.track.trackers),
    log:
        "logs/{study}/collect_results/{benchmark}/{tracker}.log",
    benchmark:
        "benchmarks/{study}/collect_results/{benchmark}/{tracker}.tsv"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=30,
    params:
        run=env("track"),
        split=PARAMS.track.split,
        shards=lambda wildcards, input: [path.removesuffix(".json") for path in input.shards],
    shell:
        "{params.run} workflow_scripts.track.collect --index {input.index:q} --split {params.split} --shard {params.shards:q} "
        "--output {output.raw:q} --manifest {output.manifest:q} > {log:q} 2>&1"


rule probe_language:
    input:
        weights="results/{study}/track/weights/dutrack.json",
        index="results/{study}/data/tnllt.npz",
        code=code("track.language"),
    output:
        metrics="results/{study}/track/language.json",
        manifest="results/{study}/track/language.manifest.json",
    log:
        "logs/{study}/probe_language.log",
    benchmark:
        "benchmarks/{study}/probe_language.tsv"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
        gpu=gpus(),
    params:
        run=env("track"),
        split=PARAMS.track.split,
        batch=PARAMS.track.run.batch,
        device=device(),
        parameters=parameters("track.language"),
    shell:
        "{params.run} workflow_scripts.track.language --index {input.index:q} --split {params.split} "
        "--weights results/{wildcards.study}/track/weights/dutrack --batch {params.batch} --device {params.device} "
        "--parameters {params.parameters:q} --output {output.metrics:q} --manifest {output.manifest:q} > {log:q} 2>&1"


rule import_published:
    input:
        archive="data/{study}/published/{tracker}.json",
        index="results/{study}/data/{benchmark}.npz",
        code=code("track.published"),
    output:
        raw=directory("results/{study}/track/raw/{benchmark}/{tracker}"),
        manifest="results/{study}/track/raw/{benchmark}/{tracker}.json",
    wildcard_constraints:
        tracker="|".join(PARAMS.track.published) or "none",
    log:
        "logs/{study}/import_published/{benchmark}/{tracker}.log",
    benchmark:
        "benchmarks/{study}/import_published/{benchmark}/{tracker}.tsv"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        run=env("track"),
        split=PARAMS.track.split,
        name=lambda wildcards: PARAMS.track.published[wildcards.tracker],
    shell:
        "{params.run} workflow_scripts.track.published --archive data/{wildcards.study}/published/{wildcards.tracker} "
        "--tracker {params.name:q} --index {input.index:q} --split {params.split} "
        "--output {output.raw:q} --manifest {output.manifest:q} > {log:q} 2>&1"
