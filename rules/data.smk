# Data: sequences are rendered (mini) or published (full); fetched, verified, restored, indexed, checked.

from workflow_scripts.data import benchmarks
from workflow_scripts.data.packing import part_names

try:
    BENCHMARKS = {name: benchmarks.load(name) for name in PARAMS.data.benchmarks}
except BadInput as error:
    sys.exit(f"error: params.yaml: parameter data.benchmarks: {error}")

ARCHIVE = PARAMS.data.archive.name
PARTS = part_names(ARCHIVE, PARAMS.data.archive.parts)
CHECKSUMS = f"{ARCHIVE}_parts.md5"
INVENTORY = f"{ARCHIVE}_inventory.txt"
FETCHED_WHOLE = [name for name in PARAMS.data.benchmarks if name != "tnllt"] + [
    "tnllt-splits"
]


wildcard_constraints:
    part="|".join([*PARTS, CHECKSUMS, INVENTORY]),
    benchmark="|".join(PARAMS.data.benchmarks),
    artifact="|".join(FETCHED_WHOLE),


def data_outputs():
    """What the study wants of this stage: every benchmark there (a lost folder is noticed), checked, its splits written."""
    names = PARAMS.data.benchmarks
    folders = [f"data/{STUDY}/{name}" for name in names]
    return folders + [
        f"results/{STUDY}/data/{name}.{kind}.json"
        for name in names
        for kind in ("check", "splits")
    ]


def publisher(wildcards):
    """What a part is fetched after: the mini study publishes its archive itself."""
    return [f"data/{wildcards.study}/upstream.json"] if PARAMS.data.render else []


def published(wildcards):
    """The folder that this publisher keeps: made again if it was deleted and a part is wanted, no reason to fetch again."""
    return [f"data/{wildcards.study}/upstream"] if PARAMS.data.render else []


def address(wildcards):
    """Flags that say where a part comes from. TNLLT's publisher calls the checksums by another name than the parts."""
    if PARAMS.data.render:
        upstream = f"data/{wildcards.study}/upstream"
        sums = f" --checksums {upstream}/{CHECKSUMS}" if wildcards.part in PARTS else ""
        return f"--url file:{upstream}/{wildcards.part}{sums}"
    return f"--source tnllt-parts --member {wildcards.part if wildcards.part != CHECKSUMS else ARCHIVE + '.tar.gz.md5'}"


def inventory(wildcards):
    """The publisher's list of files: TNLLT's publisher has none."""
    return [f"data/{wildcards.study}/parts/{INVENTORY}"] if PARAMS.data.render else []


def lists(wildcards):
    """Folder of a benchmark's split lists where it is not the dataset's own."""
    separate = wildcards.benchmark == "tnllt" and not PARAMS.data.render
    return (
        f"data/{wildcards.study}/tnllt-splits"
        if separate
        else f"data/{wildcards.study}/{wildcards.benchmark}"
    )


def with_layout(command):
    """Code of a command and of the benchmark's layout, which it imports by name: another layout's change reruns nothing here."""
    return lambda wildcards: code(
        command, f"data.layouts.{BENCHMARKS[wildcards.benchmark].layout}"
    )


rule render_archive:
    output:
        archive=directory("data/{study}/upstream"),
        manifest="data/{study}/upstream.json",
    log:
        "logs/{study}/render_archive.log",
    benchmark:
        "benchmarks/{study}/render_archive.tsv"
    priority: 10
    threads: 2
    resources:
        mem_mb=1500,
        runtime=10,
    params:
        code=code("data.render"),
        run=env("data"),
        name=ARCHIVE,
        parts=len(PARTS),
        parameters=parameters("data.render"),
    shell:
        "{params.run} --code {params.code} -- "
        "python -m workflow_scripts.data.render --output {output.archive:q} --name {params.name:q} --parts {params.parts} "
        "--parameters {params.parameters:q} --manifest {output.manifest:q} > {log:q} 2>&1"


rule fetch_part:
    input:
        publisher,
        ancient(published),
    output:
        part="data/{study}/parts/{part}",
        manifest="data/{study}/parts/{part}.json",
    log:
        "logs/{study}/fetch_part/{part}.log",
    benchmark:
        "benchmarks/{study}/fetch_part/{part}.tsv"
    priority: 10
    threads: 1
    resources:
        mem_mb=500,
        runtime=2880,
    params:
        code=code("data.fetch"),
        run=env("data"),
        address=address,
        parameters=parameters("data.fetch"),
    shell:
        "{params.run} --code {params.code} -- "
        "python -m workflow_scripts.data.fetch {params.address} --output {output.part:q} "
        "--parameters {params.parameters:q} --manifest {output.manifest:q} > {log:q} 2>&1"


rule verify_parts:
    input:
        manifests=expand("data/{{study}}/parts/{part}.json", part=[*PARTS, CHECKSUMS]),
        parts=ancient(expand("data/{{study}}/parts/{part}", part=PARTS)),
        checksums=f"data/{{study}}/parts/{CHECKSUMS}",
    output:
        manifest="data/{study}/parts.json",
    log:
        "logs/{study}/verify_parts.log",
    benchmark:
        "benchmarks/{study}/verify_parts.tsv"
    priority: 10
    threads: 2
    resources:
        mem_mb=500,
        runtime=240,
    params:
        code=code("data.verify"),
        run=env("data"),
        pattern=f"{ARCHIVE}_part_*",
        expected=len(PARTS),
    shell:
        "{params.run} --code {params.code} -- "
        "python -m workflow_scripts.data.verify --parts data/{wildcards.study}/parts/{params.pattern:q} --md5 {input.checksums:q} "
        "--expect {params.expected} --manifest {output.manifest:q} > {log:q} 2>&1"


rule restore_archive:
    input:
        seal="data/{study}/parts.json",
        parts=ancient(expand("data/{{study}}/parts/{part}", part=PARTS)),
        checksums=f"data/{{study}}/parts/{CHECKSUMS}",
        inventory=inventory,
    output:
        dataset=directory("data/{study}/tnllt"),
        manifest="data/{study}/tnllt.json",
    log:
        "logs/{study}/restore_archive.log",
    benchmark:
        "benchmarks/{study}/restore_archive.tsv"
    priority: 10
    threads: 2
    resources:
        mem_mb=800,
        runtime=720,
    params:
        code=code("data.restore"),
        run=env("data"),
        pattern=f"{ARCHIVE}_part_*",
        inventory=lambda wildcards, input: [
            f"--inventory {path}" for path in input.inventory
        ],
    shell:
        "{params.run} --code {params.code} -- "
        "python -m workflow_scripts.data.restore --parts data/{wildcards.study}/parts/{params.pattern:q} --md5 {input.checksums:q} "
        "{params.inventory} --output {output.dataset:q} --manifest {output.manifest:q} > {log:q} 2>&1"


rule fetch_benchmark:
    output:
        dataset=directory("data/{study}/{artifact}"),
        manifest="data/{study}/{artifact}.json",
    log:
        "logs/{study}/fetch_benchmark/{artifact}.log",
    benchmark:
        "benchmarks/{study}/fetch_benchmark/{artifact}.tsv"
    threads: 1
    resources:
        mem_mb=500,
        runtime=2880,
    params:
        code=code("data.fetch"),
        run=env("data"),
        parameters=parameters("data.fetch"),
    shell:
        "{params.run} --code {params.code} -- "
        "python -m workflow_scripts.data.fetch --source {wildcards.artifact:q} --output {output.dataset:q} "
        "--parameters {params.parameters:q} --manifest {output.manifest:q} > {log:q} 2>&1"


rule index_benchmark:
    input:
        lambda wildcards: f"{lists(wildcards)}.json",
        manifest="data/{study}/{benchmark}.json",
        dataset=ancient("data/{study}/{benchmark}"),
        benchmark="workflow_scripts/data/benchmarks/{benchmark}.yaml",
    output:
        index="results/{study}/data/{benchmark}.npz",
        manifest="results/{study}/data/{benchmark}.json",
    log:
        "logs/{study}/index_benchmark/{benchmark}.log",
    benchmark:
        "benchmarks/{study}/index_benchmark/{benchmark}.tsv"
    priority: 10
    threads: 1
    resources:
        mem_mb=4000,
        runtime=60,
    params:
        code=with_layout("data.index"),
        run=env("data"),
        lists=lists,
    shell:
        "{params.run} --code {params.code} -- "
        "python -m workflow_scripts.data.index --benchmark {wildcards.benchmark} --root {input.dataset:q} --lists {params.lists:q} "
        "--input {input.manifest:q} --output {output.index:q} --manifest {output.manifest:q} > {log:q} 2>&1"


rule check_benchmark:
    input:
        lambda wildcards: f"{lists(wildcards)}.json",
        manifest="data/{study}/{benchmark}.json",
        dataset=ancient("data/{study}/{benchmark}"),
        benchmark="workflow_scripts/data/benchmarks/{benchmark}.yaml",
    output:
        report="results/{study}/data/{benchmark}.check.json",
        csv="results/{study}/data/{benchmark}.check.csv",
        manifest="results/{study}/data/{benchmark}.check.manifest.json",
    log:
        "logs/{study}/check_benchmark/{benchmark}.log",
    benchmark:
        "benchmarks/{study}/check_benchmark/{benchmark}.tsv"
    threads: 2
    resources:
        mem_mb=4000,
        runtime=240,
    params:
        code=with_layout("data.check"),
        run=env("data"),
        lists=lists,
        parameters=parameters("data.check"),
    shell:
        "{params.run} --code {params.code} -- "
        "python -m workflow_scripts.data.check --benchmark {wildcards.benchmark} --root {input.dataset:q} --lists {params.lists:q} "
        "--output {output.report:q} --csv {output.csv:q} --parameters {params.parameters:q} --manifest {output.manifest:q} > {log:q} 2>&1"


rule write_splits:
    input:
        index=ancient("results/{study}/data/{benchmark}.npz"),
        indexed="results/{study}/data/{benchmark}.json",
    output:
        splits="results/{study}/data/{benchmark}.splits.json",
        manifest="results/{study}/data/{benchmark}.splits.manifest.json",
    log:
        "logs/{study}/write_splits/{benchmark}.log",
    benchmark:
        "benchmarks/{study}/write_splits/{benchmark}.tsv"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        code=code("data.splits"),
        run=env("data"),
    shell:
        "{params.run} --code {params.code} -- "
        "python -m workflow_scripts.data.splits --index {input.index:q} --output {output.splits:q} "
        "--manifest {output.manifest:q} > {log:q} 2>&1"
