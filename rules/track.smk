# Tracking: weights are trained (mini) or fetched and converted (full); trackers run by shard, a job a shard; shards are collected.
# The same folder, results/{study}/track/raw/{benchmark}/{tracker}, holds what the authors published, where it is re-scored.

from workflow_scripts.params.track import CLASSIC, WITHOUT_WEIGHTS

RECIPES = PARAMS.track.train  # network -> how it is trained
NETWORKS = {
    tracker: PARAMS.track.reasoning.network if tracker == "reasoningtrack" else tracker
    for tracker in PARAMS.track.trackers
    if tracker not in WITHOUT_WEIGHTS
}
READERS = [
    name for name in PARAMS.track.checkpoints if name.startswith("dutrack")
]  # networks that need BERT's words
CAPTIONER = f"data/{STUDY}/checkpoints/{PARAMS.track.captioner}"
MERGED = f"results/{STUDY}/grpo/model"
R1TRACK = (
    f"data/{STUDY}/checkpoints/{PARAMS.track.r1track.model}"
    if PARAMS.track.r1track.model
    else MERGED
)


def describer(tracker):
    """Where a tracker's words come from."""
    return PARAMS.track.describers.get(tracker, "sentence")


def asked_model(tracker):
    """Folder of the language model that a tracker asks, if it does."""
    if tracker == "r1track":
        return R1TRACK
    asks = tracker == "reasoningtrack" or describer(tracker) == "model"
    return MERGED if asks else None


def only(module, *parts):
    """Code of `module` without what it imports for other trackers than the one whose `parts` are named: no other's edit reruns it."""
    optional = [
        "/networks/",
        "/trackers/dutrack",
        "/trackers/seqtrack",
        "/trackers/reasoningtrack",
        "/trackers/r1track",
    ]
    optional += [
        "/serve/",
        "/describers.py",
        "/checkpoints.py",
        "/convert.py",
        "/crops.py",
        "/texts.py",
    ]
    started = ["serve.transformers_server"] if "/serve/" in parts else []
    return fingerprint(
        [
            f
            for f in graph.sources([module, *started])
            if not any(o in f for o in optional) or any(part in f for part in parts)
        ]
    )


PLAIN = (
    "/checkpoints.py",
    "/convert.py",
    "/crops.py",
    "/texts.py",
    "/networks/__init__",
)
DUTRACK = (*PLAIN, "/describers.py", "/networks/dutrack", "/trackers/dutrack")
SEQTRACK = (
    *PLAIN,
    "/networks/seqtrack",
    "/networks/packed",
    "/networks/dutrack_small",
    "/trackers/seqtrack",
)


def tracker_code(wildcards):
    """Modules of a tracker's job."""
    if wildcards.tracker in CLASSIC:
        return only("track.run")
    if wildcards.tracker.startswith("seqtrack"):
        return only("track.run", *SEQTRACK)
    if wildcards.tracker == "r1track":
        return only("track.run", "/trackers/r1track", "/crops.py", "/serve/")
    asks = ("/serve/",) if asked_model(wildcards.tracker) else ()
    asks += (
        ("/trackers/reasoningtrack",) if wildcards.tracker == "reasoningtrack" else ()
    )
    return only("track.run", *DUTRACK, *asks)


def needs(wildcards):
    """Manifests of the weights, and of the language and captioning models, that a tracker runs with."""
    if wildcards.tracker in NETWORKS:
        yield f"results/{STUDY}/track/weights/{NETWORKS[wildcards.tracker]}.json"
    if model := asked_model(wildcards.tracker):
        yield f"{model}.json"
    if describer(wildcards.tracker) == "blip":
        yield f"{CAPTIONER}.json"


def flags(wildcards):
    """What only some trackers are told: weights; the language model, how it is served, and when it is asked."""
    said = []
    if wildcards.tracker in NETWORKS:
        said += [
            "--weights",
            f"results/{STUDY}/track/weights/{NETWORKS[wildcards.tracker]}",
        ]
    if model := asked_model(wildcards.tracker):
        said += ["--server-model", model, "--server-parameters", parameters("serve")]
    if wildcards.tracker == "reasoningtrack":
        said += ["--reasoning-parameters", parameters("track.reasoning")]
    if wildcards.tracker == "r1track":
        said += ["--r1track-parameters", parameters("track.r1track")]
    if describer(wildcards.tracker) != "sentence":
        said += ["--describer", describer(wildcards.tracker)]
    if describer(wildcards.tracker) == "blip":
        said += ["--captioner", CAPTIONER]
    return said


def memory(wildcards):
    """Megabytes of a job: in the full study some 200 for each open sequence (frames ahead, crops remembered), and a server's."""
    asks = bool(asked_model(wildcards.tracker))
    if STUDY == "mini":
        return 6000 if asks else 2000
    flying = PARAMS.serve.questions.in_flight if asks else 0
    return 200 * (PARAMS.track.run.batch + flying) + (24000 if asks else 8000)


def training_sources(wildcards):
    """What a training reads: the flag that tells it, the file that Snakemake watches, the flag's value."""
    how = RECIPES[wildcards.network]
    weights, fetched = (
        f"results/{STUDY}/track/weights",
        f"data/{STUDY}/checkpoints",
    )
    for name in how.benchmarks:
        index = f"results/{STUDY}/data/{name}"
        yield "--index", f"{index}.json", f"{index}.npz"
    if how.initial in PARAMS.track.trained:
        yield "--initial", f"{weights}/{how.initial}.json", f"{weights}/{how.initial}"
    elif how.initial:
        source = Path(how.initial).parts[0]
        yield "--initial", f"{fetched}/{source}.json", f"{fetched}/{how.initial}"
    if how.network.startswith("dutrack") and how.network != "dutrack_small":
        words = f"{fetched}/{PARAMS.track.vocabulary}"
        yield "--vocabulary", f"{words}.json", f"{words}/vocab.txt"


def training_indices(wildcards):
    """Indices of the benchmarks that a network is trained on."""
    return [
        value for flag, _, value in training_sources(wildcards) if flag == "--index"
    ]


def launcher(wildcards):
    """torch's launcher, where several processes share a training."""
    processes = RECIPES[wildcards.network].processes
    command = f"torch.distributed.run --standalone --nproc-per-node {processes} -m"
    return command if processes > 1 else ""


def cores_of(how):
    """Cores of a training: its processes' threads, or those that crop for them."""
    return how.processes * max(how.threads, how.feeders)


def training_code(wildcards):
    """Modules of a network's training: a DUTrack's needs nothing of SeqTrack's network."""
    dutrack = RECIPES[wildcards.network].network.startswith("dutrack")
    return only("track.train", *PLAIN, "/networks/dutrack" if dutrack else "/networks/")


rule train_tracker:
    input:
        lambda wildcards: [seen for _, seen, _ in training_sources(wildcards)],
        index=ancient(training_indices),
    output:
        weights=directory("results/{study}/track/weights/{network}"),
        manifest="results/{study}/track/weights/{network}.json",
    log:
        "logs/{study}/train_tracker/{network}.log",
    benchmark:
        "benchmarks/{study}/train_tracker/{network}.tsv"
    wildcard_constraints:
        network="|".join(PARAMS.track.trained) or "none",
    priority: 10  # the longest job, and those before it, first: the mini study's other half runs beside it
    threads: lambda wildcards: cores_of(RECIPES[wildcards.network])
    resources:
        mem_mb=lambda wildcards: 3000 * RECIPES[wildcards.network].processes,
        runtime=30 if STUDY == "mini" else 4320,
        gpu=lambda wildcards: gpus(RECIPES[wildcards.network].processes),
    params:
        code=training_code,
        run=env("track"),
        launcher=launcher,
        sources=lambda wildcards: [
            word
            for flag, _, value in training_sources(wildcards)
            for word in (flag, value)
        ],
        parameters=lambda wildcards: parameters(f"track.train.{wildcards.network}"),
    shell:
        "{params.run} --code {params.code} -- "
        "python -m {params.launcher} workflow_scripts.track.train {params.sources:q} --split train "
        "--parameters {params.parameters:q} "
        "--output {output.weights:q} --manifest {output.manifest:q} > {log:q} 2>&1"


rule fetch_checkpoint:
    output:
        folder=directory("data/{study}/checkpoints/{source}"),
        manifest="data/{study}/checkpoints/{source}.json",
    log:
        "logs/{study}/fetch_checkpoint/{source}.log",
    benchmark:
        "benchmarks/{study}/fetch_checkpoint/{source}.tsv"
    wildcard_constraints:
        source="|".join(
            [*PARAMS.track.checkpoints.values()]
            + [PARAMS.track.vocabulary, PARAMS.track.captioner]
            + [PARAMS.track.r1track.model] * bool(PARAMS.track.r1track.model)
            + [
                Path(RECIPES[name].initial).parts[0]
                for name in PARAMS.track.trained
                if RECIPES[name].initial
            ]
        ),
    threads: 1
    resources:
        mem_mb=1000,
        runtime=240,
    params:
        code=code("data.fetch"),
        run=env("data"),
        parameters=parameters("data.fetch"),
    shell:
        "{params.run} --code {params.code} -- "
        "python -m workflow_scripts.data.fetch --source {wildcards.source:q} --output {output.folder:q} "
        "--parameters {params.parameters:q} --manifest {output.manifest:q} > {log:q} 2>&1"


use rule fetch_checkpoint as fetch_published with:
    output:
        folder=directory("data/{study}/published/{source}"),
        manifest="data/{study}/published/{source}.json",
    log:
        "logs/{study}/fetch_published/{source}.log",
    benchmark:
        "benchmarks/{study}/fetch_published/{source}.tsv"
    wildcard_constraints:
        source=PARAMS.track.published_source,


rule convert_checkpoint:
    input:
        checkpoint=lambda wildcards: f"data/{STUDY}/checkpoints/{PARAMS.track.checkpoints[wildcards.network]}.json",
        words=lambda wildcards: (
            f"data/{STUDY}/checkpoints/{PARAMS.track.vocabulary}.json"
            if wildcards.network in READERS
            else []
        ),
    output:
        weights=directory("results/{study}/track/weights/{network}"),
        manifest="results/{study}/track/weights/{network}.json",
    log:
        "logs/{study}/convert_checkpoint/{network}.log",
    benchmark:
        "benchmarks/{study}/convert_checkpoint/{network}.tsv"
    wildcard_constraints:
        network="|".join(
            name
            for name in PARAMS.track.checkpoints
            if name not in PARAMS.track.trained
        )
        or "none",
    threads: 1
    resources:
        mem_mb=8000,
        runtime=30,
    params:
        code=only("track.convert", *PLAIN, "/networks/"),
        run=env("track"),
        folder=lambda wildcards, input: input.checkpoint.removesuffix(".json"),
        words=lambda wildcards, input: (
            ["--vocabulary", f"{input.words.removesuffix('.json')}/vocab.txt"]
            if input.words
            else []
        ),
    shell:
        "{params.run} --code {params.code} -- "
        "python -m workflow_scripts.track.convert --checkpoint {params.folder:q} --variant {wildcards.network} {params.words:q} "
        "--output {output.weights:q} --manifest {output.manifest:q} > {log:q} 2>&1"


rule run_tracker:
    input:
        needs,
        index=ancient("results/{study}/data/{benchmark}.npz"),
        indexed="results/{study}/data/{benchmark}.json",
    output:
        shard=directory("results/{study}/track/shards/{benchmark}/{tracker}/{shard}"),
        manifest="results/{study}/track/shards/{benchmark}/{tracker}/{shard}.json",
    log:
        run="logs/{study}/run_tracker/{benchmark}/{tracker}/{shard}.log",
        server="logs/{study}/run_tracker/{benchmark}/{tracker}/{shard}.server.log",
    benchmark:
        "benchmarks/{study}/run_tracker/{benchmark}/{tracker}/{shard}.tsv"
    wildcard_constraints:
        tracker="|".join(PARAMS.track.trackers),
        shard=r"\d+",
    threads: 1 if STUDY == "mini" else PARAMS.track.run.readers
    resources:
        mem_mb=memory,
        runtime=60 if STUDY == "mini" else 1440,
        gpu=gpus(),
    params:
        code=tracker_code,
        run=env("track"),
        split=PARAMS.track.split,
        shards=PARAMS.track.run.shards,
        flags=flags,
        parameters=parameters("track.run"),
    shell:
        "{params.run} --code {params.code} -- "
        "python -m workflow_scripts.track.run --tracker {wildcards.tracker} --index {input.index:q} "
        "--benchmark {wildcards.benchmark} --split {params.split} --shard {wildcards.shard} --shards {params.shards} "
        "{params.flags:q} --server-log {log.server:q} --parameters {params.parameters:q} "
        "--output {output.shard:q} --manifest {output.manifest:q} > {log.run:q} 2>&1"


rule collect_results:
    input:
        shards=expand(
            "results/{{study}}/track/shards/{{benchmark}}/{{tracker}}/{shard}.json",
            shard=range(PARAMS.track.run.shards),
        ),
        index=ancient("results/{study}/data/{benchmark}.npz"),
        indexed="results/{study}/data/{benchmark}.json",
    output:
        raw=directory("results/{study}/track/raw/{benchmark}/{tracker}"),
        manifest="results/{study}/track/raw/{benchmark}/{tracker}.json",
    log:
        "logs/{study}/collect_results/{benchmark}/{tracker}.log",
    benchmark:
        "benchmarks/{study}/collect_results/{benchmark}/{tracker}.tsv"
    wildcard_constraints:
        tracker="|".join(PARAMS.track.trackers),
    threads: 1
    resources:
        mem_mb=1000,
        runtime=30,
    params:
        code=only("track.collect"),
        run=env("track"),
        split=PARAMS.track.split,
        shards=lambda wildcards, input: [
            path.removesuffix(".json") for path in input.shards
        ],
    shell:
        "{params.run} --code {params.code} -- "
        "python -m workflow_scripts.track.collect --index {input.index:q} --split {params.split} --shard {params.shards:q} "
        "--output {output.raw:q} --manifest {output.manifest:q} > {log:q} 2>&1"


rule probe_language:
    input:
        weights="results/{study}/track/weights/dutrack.json",
        index=ancient("results/{study}/data/tnllt.npz"),
        indexed="results/{study}/data/tnllt.json",
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
        code=only("track.language", *DUTRACK),
        run=env("track"),
        split=PARAMS.track.split,
        batch=PARAMS.track.run.batch,
        device=device(),
        parameters=parameters("track.language"),
    shell:
        "{params.run} --code {params.code} -- "
        "python -m workflow_scripts.track.language --index {input.index:q} --split {params.split} "
        "--weights results/{wildcards.study}/track/weights/dutrack --batch {params.batch} --device {params.device} "
        "--parameters {params.parameters:q} --output {output.metrics:q} --manifest {output.manifest:q} > {log:q} 2>&1"


rule import_published:
    input:
        archive=f"data/{{study}}/published/{PARAMS.track.published_source}.json",
        index=ancient("results/{study}/data/{benchmark}.npz"),
        indexed="results/{study}/data/{benchmark}.json",
    output:
        raw=directory("results/{study}/track/raw/{benchmark}/{tracker}"),
        manifest="results/{study}/track/raw/{benchmark}/{tracker}.json",
    log:
        "logs/{study}/import_published/{benchmark}/{tracker}.log",
    benchmark:
        "benchmarks/{study}/import_published/{benchmark}/{tracker}.tsv"
    wildcard_constraints:
        tracker="|".join(PARAMS.track.published) or "none",
    threads: 1
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        code=only("track.published"),
        run=env("track"),
        split=PARAMS.track.split,
        archive=lambda wildcards, input: input.archive.removesuffix(".json"),
        name=lambda wildcards: PARAMS.track.published[wildcards.tracker],
    shell:
        "{params.run} --code {params.code} -- "
        "python -m workflow_scripts.track.published --archive {params.archive:q} "
        "--tracker {params.name:q} --index {input.index:q} --split {params.split} "
        "--output {output.raw:q} --manifest {output.manifest:q} > {log:q} 2>&1"
