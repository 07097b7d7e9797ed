# Reinforcement learning of the language model: pairs, the trainer's configuration, training, merge of its rank shards, check.
# grpo.start_from names the supervised model to start from: the one of the noised labels in mini, the clean one in full.


def start_model():
    """Folder of the model that training starts from; its manifest is beside it."""
    return f"results/{STUDY}/sft/{PARAMS.grpo.start_from}/model"


def pair_indices():
    """Benchmark -> index that pairs are sampled from or guarded against; none where pairs are rendered."""
    names = {*PARAMS.grpo.pairs.benchmarks, *PARAMS.grpo.pairs.guarded}
    return {name: f"results/{STUDY}/data/{name}.npz" for name in sorted(names)}


def reward_tracker():
    """Folder of the weights of the tracker that the reward asks, in a list; empty where none is asked."""
    tracker = PARAMS.grpo.reward_tracker
    return [f"results/{STUDY}/track/weights/{tracker}"] if tracker else []


rule build_pairs:
    input:
        indices=ancient(list(pair_indices().values())),
        indexed=[
            f"{path.removesuffix('.npz')}.json" for path in pair_indices().values()
        ],
        tracker=[f"{folder}.json" for folder in reward_tracker()],
    output:
        pairs=directory("results/{study}/grpo/pairs"),
        manifest="results/{study}/grpo/pairs.json",
    log:
        "logs/{study}/build_pairs.log",
    benchmark:
        "benchmarks/{study}/build_pairs.tsv"
    threads: 1
    resources:
        mem_mb=4000 if STUDY == "mini" else 16000,
        runtime=240,
        gpu=gpus() if reward_tracker() else 0,
    params:
        code=code("grpo.pairs", *(["grpo.reward_service"] if reward_tracker() else [])),
        run=env("grpo"),
        tracker=[
            f"--tracker {PARAMS.grpo.easyr1.tracker} --tracker-weights {folder} --input {folder}.json --device {device()}"
            for folder in reward_tracker()
        ],
        indices=[f"--index {name}={path}" for name, path in pair_indices().items()],
        parameters=parameters("grpo.pairs"),
    shell:
        "{params.run} --code {params.code} -- "
        "python -m workflow_scripts.grpo.pairs {params.indices} {params.tracker} --parameters {params.parameters:q} "
        "--output {output.pairs:q} --manifest {output.manifest:q} > {log:q} 2>&1"


rule configure_grpo:
    input:
        model=f"{start_model()}.json",
        pairs="results/{study}/grpo/pairs.json",
        tables=expand(
            "workflow_scripts/grpo/{file}.yaml",
            file=[
                "easyr1_keys",
                "recipes/reasoningtrack",
                "recipes/r1track-think",
                "recipes/r1track-nothink",
            ],
        ),
    output:
        config="results/{study}/grpo/config.yaml",
        manifest="results/{study}/grpo/config.json",
    log:
        "logs/{study}/configure_grpo.log",
    benchmark:
        "benchmarks/{study}/configure_grpo.tsv"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        code=code("grpo.configure"),
        run=env("grpo"),
        model=start_model(),
        tracker=[f"--tracker-weights {folder}" for folder in reward_tracker()],
        parameters=parameters("grpo"),
    shell:
        "{params.run} --code {params.code} -- "
        "python -m workflow_scripts.grpo.configure --model {params.model:q} --pairs results/{wildcards.study}/grpo/pairs "
        "{params.tracker} --input {input.model:q} --input {input.pairs:q} --parameters {params.parameters:q} "
        "--output {output.config:q} --manifest {output.manifest:q} > {log:q} 2>&1"


rule train_grpo:
    input:
        config="results/{study}/grpo/config.yaml",
        model=f"{start_model()}.json",
        pairs="results/{study}/grpo/pairs.json",
        tracker=[f"{folder}.json" for folder in reward_tracker()],
    output:
        checkpoints=directory("results/{study}/grpo/checkpoints"),
        metrics="results/{study}/grpo/metrics.json",
        curve="results/{study}/grpo/reward.csv",
        manifest="results/{study}/grpo/checkpoints.json",
    log:
        "logs/{study}/train_grpo.log",
    benchmark:
        "benchmarks/{study}/train_grpo.tsv"
    threads: 16 if STUDY == "full" else 1
    resources:
        mem_mb=200000 if STUDY == "full" else 3000,
        runtime=4320 if STUDY == "full" else 20,
        gpu=gpus(PARAMS.grpo.easyr1.gpus if PARAMS.grpo.easyr1 else 1),
    params:
        code=code("grpo.train", *(["grpo.reward_service"] if reward_tracker() else [])),
        run=env("grpo"),
        tracker=[f"--input {folder}.json" for folder in reward_tracker()],
    shell:
        "{params.run} --code {params.code} -- "
        "python -m workflow_scripts.grpo.train --config {input.config:q} --input {input.model:q} --input {input.pairs:q} "
        "{params.tracker} --output {output.checkpoints:q} --metrics {output.metrics:q} --curve {output.curve:q} "
        "--manifest {output.manifest:q} > {log:q} 2>&1"


rule merge_grpo:
    input:
        checkpoints="results/{study}/grpo/checkpoints.json",
    output:
        model=directory("results/{study}/grpo/model"),
        manifest="results/{study}/grpo/model.json",
    log:
        "logs/{study}/merge_grpo.log",
    benchmark:
        "benchmarks/{study}/merge_grpo.tsv"
    threads: 1
    resources:
        mem_mb=32000 if STUDY == "full" else 2000,
        runtime=60 if STUDY == "full" else 10,
    params:
        code=code("grpo.merge"),
        run=env("grpo"),
        parameters=parameters("grpo.merge"),
    shell:
        "{params.run} --code {params.code} -- "
        "python -m workflow_scripts.grpo.merge --checkpoints results/{wildcards.study}/grpo/checkpoints "
        "--checkpoints-manifest {input.checkpoints:q} --parameters {params.parameters:q} "
        "--output {output.model:q} --manifest {output.manifest:q} > {log:q} 2>&1"


rule check_merge:
    input:
        checkpoints="results/{study}/grpo/checkpoints.json",
        model="results/{study}/grpo/model.json",
        pairs="results/{study}/grpo/pairs.json",
    output:
        check="results/{study}/grpo/merge_check.json",
        manifest="results/{study}/grpo/merge_check.manifest.json",
    log:
        "logs/{study}/check_merge.log",
    benchmark:
        "benchmarks/{study}/check_merge.tsv"
    threads: 1
    resources:
        mem_mb=48000 if STUDY == "full" else 2000,
        runtime=60 if STUDY == "full" else 10,
        gpu=gpus(),
    params:
        code=code("grpo.check"),
        run=env("grpo"),
        device=device(),
        parameters=parameters("grpo.merge"),
    shell:
        "{params.run} --code {params.code} -- "
        "python -m workflow_scripts.grpo.check --checkpoints results/{wildcards.study}/grpo/checkpoints "
        "--model results/{wildcards.study}/grpo/model --pairs results/{wildcards.study}/grpo/pairs "
        "--input {input.checkpoints:q} --input {input.model:q} --device {params.device} --parameters {params.parameters:q} "
        "--output {output.check:q} --manifest {output.manifest:q} > {log:q} 2>&1"
