# TrackGraph: the study from raw data to table and figures, one node a rule, one file of rules a stage.
#
# Where things live ({study} is mini or full, so that switching overwrites nothing):
#   data/{study}/...              what was fetched, rendered or restored     data/sources.yaml  where it comes from
#   results/{study}/<stage>/...   what each stage made; beside every folder X/ lies its manifest X.json
#   results/tnllt_table.csv       the current study's table                  logs/{study}/<rule>/  benchmarks/{study}/<rule>/
# Downstream rules depend on manifests, never on folders: touching or restoring files reruns nothing, changed content does.
# `study` in params.yaml chooses the numbers; slurm/config.yaml chooses the full study and a cluster.


configfile: "params.yaml"


include: "rules/common.smk"
include: "rules/data.smk"
include: "rules/sft.smk"
include: "rules/grpo.smk"
include: "rules/serve.smk"
include: "rules/track.smk"
include: "rules/score.smk"
include: "rules/report.smk"


report: "report/study.rst"


localrules:
    all,


wildcard_constraints:
    study=STUDY,


rule all:
    default_target: True
    input:
        "results/tnllt_table.csv",
        report_outputs(),
        data_outputs(),
        sft_outputs(),
        score_outputs(),
        f"results/{STUDY}/grpo/merge_check.json",
        f"results/{STUDY}/serve/check.json",


onstart:
    begin()


onsuccess:
    show_table()
