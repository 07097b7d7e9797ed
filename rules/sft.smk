# Supervised fine-tuning: annotation files, their rewriting, the base model, LLaMA-Factory's run, the check on held-out pairs.
# {labels} names a run of sft.runs: clean and noised in mini, clean (ReasoningTrack) and r1track (adapters) in full.

SFT_RUNS = PARAMS.sft.runs
ADAPTER_RUNS = [name for name, run in SFT_RUNS.items() if run.recipe.method == "lora"]
FETCHED_ROWS = not PARAMS.sft.annotations.train


wildcard_constraints:
    labels="|".join(SFT_RUNS),


def sft_model(labels):
    """Folder of a run's finished model, its manifest beside it: the exported one where the run trains an adapter."""
    return f"results/{STUDY}/sft/{labels}/{'exported' if labels in ADAPTER_RUNS else 'model'}"


def sft_outputs():
    """What the study wants of this stage: every run's answers to its held-out pairs."""
    return [f"results/{STUDY}/sft/{labels}/metrics.json" for labels in SFT_RUNS]


rule make_annotations:
    input:
        sources=["data/sources.yaml"] if FETCHED_ROWS else [],
    output:
        rows=directory("data/{study}/sft"),
        manifest="data/{study}/sft.json",
    log:
        "logs/{study}/make_annotations.log",
    benchmark:
        "benchmarks/{study}/make_annotations.tsv"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=5 if not FETCHED_ROWS else 720,
    params:
        code=code("sft.annotations"),
        run=env("sft"),
        parameters=parameters("sft.annotations"),
    shell:
        "{params.run} --code {params.code} -- "
        "python -m workflow_scripts.sft.annotations --parameters {params.parameters:q} "
        "--output {output.rows:q} --manifest {output.manifest:q} > {log:q} 2>&1"


rule rewrite_annotations:
    input:
        rows="data/{study}/sft.json",
    output:
        dataset=directory("results/{study}/sft/{labels}/dataset"),
        manifest="results/{study}/sft/{labels}/dataset.json",
    log:
        "logs/{study}/rewrite_annotations/{labels}.log",
    benchmark:
        "benchmarks/{study}/rewrite_annotations/{labels}.tsv"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=60,
    params:
        code=code("sft.rewrite"),
        run=env("sft"),
        parameters=lambda wildcards: parameters(f"sft.runs.{wildcards.labels}.rows"),
        prompt=parameters("sft.prompt"),
        pixels=parameters("sft.pixels"),
    shell:
        "{params.run} --code {params.code} -- "
        "python -m workflow_scripts.sft.rewrite --annotations data/{wildcards.study}/sft --labels {wildcards.labels} "
        "--parameters {params.parameters:q} --prompt {params.prompt:q} --pixels {params.pixels:q} --input {input.rows:q} "
        "--output {output.dataset:q} --manifest {output.manifest:q} > {log:q} 2>&1"


rule build_base_model:
    output:
        model=directory("data/{study}/models/base"),
        manifest="data/{study}/models/base.json",
    log:
        "logs/{study}/build_base_model.log",
    benchmark:
        "benchmarks/{study}/build_base_model.tsv"
    threads: 1
    resources:
        mem_mb=1500,
        runtime=120,
    params:
        code=code("sft.base_model"),
        run=env("sft"),
        parameters=parameters("sft.base"),
    shell:
        "{params.run} --code {params.code} -- "
        "python -m workflow_scripts.sft.base_model --parameters {params.parameters:q} "
        "--output {output.model:q} --manifest {output.manifest:q} > {log:q} 2>&1"


rule configure_sft:
    input:
        model="data/{study}/models/base.json",
        dataset="results/{study}/sft/{labels}/dataset.json",
    output:
        config="results/{study}/sft/{labels}/config.yaml",
        manifest="results/{study}/sft/{labels}/config.json",
    log:
        "logs/{study}/configure_sft/{labels}.log",
    benchmark:
        "benchmarks/{study}/configure_sft/{labels}.tsv"
    threads: 1
    resources:
        mem_mb=1500,
        runtime=10,
    params:
        code=code("sft.configure"),
        run=env("sft"),
        parameters=lambda wildcards: parameters(f"sft.runs.{wildcards.labels}.recipe"),
        pixels=parameters("sft.pixels"),
    shell:
        "{params.run} --code {params.code} -- "
        "python -m workflow_scripts.sft.configure --labels {wildcards.labels} --model data/{wildcards.study}/models/base "
        "--dataset results/{wildcards.study}/sft/{wildcards.labels}/dataset "
        "--train-output results/{wildcards.study}/sft/{wildcards.labels}/model "
        "--parameters {params.parameters:q} --pixels {params.pixels:q} --input {input.model:q} --input {input.dataset:q} "
        "--output {output.config:q} --manifest {output.manifest:q} > {log:q} 2>&1"


rule train_sft:
    input:
        config="results/{study}/sft/{labels}/config.yaml",
        model="data/{study}/models/base.json",
        dataset="results/{study}/sft/{labels}/dataset.json",
    output:
        model=directory("results/{study}/sft/{labels}/model"),
        manifest="results/{study}/sft/{labels}/model.json",
    log:
        "logs/{study}/train_sft/{labels}.log",
    benchmark:
        "benchmarks/{study}/train_sft/{labels}.tsv"
    threads: 1
    resources:
        mem_mb=2000 if STUDY == "mini" else 200000,
        runtime=30 if STUDY == "mini" else 1440,
        gpu=gpus(4),
    params:
        code=code("sft.train"),
        run=env("sft"),
    shell:
        "{params.run} --code {params.code} -- "
        "python -m workflow_scripts.sft.train --config {input.config:q} --input {input.model:q} --input {input.dataset:q} "
        "--output {output.model:q} --manifest {output.manifest:q} > {log:q} 2>&1"


rule export_sft:
    input:
        config="results/{study}/sft/{labels}/config.yaml",
        adapter="results/{study}/sft/{labels}/model.json",
    output:
        model=directory("results/{study}/sft/{labels}/exported"),
        manifest="results/{study}/sft/{labels}/exported.json",
    log:
        "logs/{study}/export_sft/{labels}.log",
    benchmark:
        "benchmarks/{study}/export_sft/{labels}.tsv"
    wildcard_constraints:
        labels="|".join(ADAPTER_RUNS) or "none",
    threads: 1
    resources:
        mem_mb=2000 if STUDY == "mini" else 32000,
        runtime=60,
    params:
        code=code("sft.export"),
        run=env("sft"),
    shell:
        "{params.run} --code {params.code} -- "
        "python -m workflow_scripts.sft.export --config {input.config:q} --input {input.adapter:q} "
        "--adapter results/{wildcards.study}/sft/{wildcards.labels}/model "
        "--output {output.model:q} --manifest {output.manifest:q} > {log:q} 2>&1"


rule evaluate_sft:
    input:
        model=lambda wildcards: f"{sft_model(wildcards.labels)}.json",
        dataset="results/{study}/sft/{labels}/dataset.json",
    output:
        metrics="results/{study}/sft/{labels}/metrics.json",
        manifest="results/{study}/sft/{labels}/evaluation.json",
    log:
        "logs/{study}/evaluate_sft/{labels}.log",
    benchmark:
        "benchmarks/{study}/evaluate_sft/{labels}.tsv"
    threads: 1
    resources:
        mem_mb=2000 if STUDY == "mini" else 32000,
        runtime=60,
        gpu=gpus(),
    params:
        code=code("sft.evaluate"),
        run=env("sft"),
        model=lambda wildcards: sft_model(wildcards.labels),
        parameters=parameters("sft.evaluate"),
        pixels=parameters("sft.pixels"),
    shell:
        "{params.run} --code {params.code} -- "
        "python -m workflow_scripts.sft.evaluate --model {params.model:q} "
        "--dataset results/{wildcards.study}/sft/{wildcards.labels}/dataset "
        "--parameters {params.parameters:q} --pixels {params.pixels:q} --input {input.model:q} --input {input.dataset:q} "
        "--output {output.metrics:q} --manifest {output.manifest:q} > {log:q} 2>&1"
