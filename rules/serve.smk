# Serving: the merged model is started once, asked a fixed pair and stopped. Trackers that ask own a server each.


rule check_server:
    input:
        model="results/{study}/grpo/model.json",
    output:
        pair=directory("results/{study}/serve/pair"),
        manifest="results/{study}/serve/pair.json",
        check="results/{study}/serve/check.json",
    log:
        check="logs/{study}/check_server/check.log",
        server="logs/{study}/check_server/server.log",
    benchmark:
        "benchmarks/{study}/check_server.tsv"
    threads: 1
    resources:
        mem_mb=6000 if STUDY == "mini" else 32000,
        runtime=30,
        gpu=gpus(),
    params:
        code=code("serve.check", "serve.guard", "serve.transformers_server"),
        run=env("serve"),
        model="results/{study}/grpo/model",
        parameters=parameters("serve"),
    shell:
        "{params.run} --code {params.code} -- "
        "python -m workflow_scripts.serve.check --model {params.model:q} --model-manifest {input.model:q} "
        "--parameters {params.parameters:q} --pair {output.pair:q} --output {output.check:q} "
        "--server-log {log.server:q} --manifest {output.manifest:q} > {log.check:q} 2>&1"
