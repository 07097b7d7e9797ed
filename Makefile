# The two commands of the README and what they need. Only Python 3.11, git and make are assumed.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
PYTHON ?= python3.11
STAGES := data sft grpo serve track score report
SUITES := graph serve grpo track sft score data report ground
IN_ENV := .venv/bin/python -m workflow_scripts.in_env
# RUNLEVEL=1 keeps the packages from starting daemons of their own
INSTALL_SLURM := { apt-get update && DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y slurm-wlm munge; } >/dev/null 2>&1

.PHONY: help setup table test test-cluster preflight restore check format clean $(addprefix test-,$(SUITES))

help:  ## this list
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 12

setup: .venv/complete  ## make the base environment in .venv

table: setup  ## run the mini study on this machine's CPU and print the table
	@source .venv/bin/activate && snakemake results/tnllt_table.csv
	@$(IN_ENV) score -- python -m workflow_scripts.score.table --show results/tnllt_table.csv

test: setup check  ## pass the tests: every stage in its own environment, and the whole graph at its smallest
	@$(MAKE) --no-print-directory --keep-going --jobs 2 --output-sync=target $(addprefix test-,$(SUITES))

test-ground test-graph: test-%:
	@echo "== $*"; .venv/bin/python -m pytest -q tests/$*

$(addprefix test-,$(STAGES)): test-%:
	@echo "== $*"; $(IN_ENV) $* -- python -m pytest -q tests/$*

test-cluster: setup  ## the mini study on a real Slurm that is brought up for it (as root, in a container or virtual machine)
	@echo "== cluster"
	@command -v slurmctld >/dev/null || $(INSTALL_SLURM) || true  # the tests say what is missing then
	@.venv/bin/python -m pytest -q tests/cluster

preflight: setup  ## what is missing here before `snakemake --profile slurm all` can run
	@.venv/bin/python -m workflow_scripts.preflight

restore: setup  ## after `dvc pull` in another clone: Snakemake learns what the files were made of, and says what is left to do
	@.venv/bin/python -m workflow_scripts.provenance unpack
	@source .venv/bin/activate && snakemake -n all --quiet rules && dvc status

check: setup  ## formatting, lint, architecture
	@.venv/bin/ruff format --check --quiet . && .venv/bin/ruff check --quiet . && .venv/bin/snakefmt --check Snakefile rules 2>&1 | tail -n 3
	@.venv/bin/lint-imports --no-cache | tail -n 4

format:  ## put code and rules into their standard form
	@.venv/bin/ruff format --quiet . && .venv/bin/ruff check --fix --quiet . && .venv/bin/snakefmt Snakefile rules

clean:  ## remove what the mini study made (environments stay in their cache)
	rm -rf data/mini results/mini results/tnllt_table.csv logs/mini benchmarks/mini

# uv installs the lock; pip, which every Python brings, installs uv
.venv/complete: envs/base.lock
	@command -v "$(PYTHON)" >/dev/null || { echo "Python 3.11 is missing: install it, or say where it is with PYTHON=/path/to/python3.11"; exit 1; }
	"$(PYTHON)" -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check "$$(grep -oE '^uv==[0-9.]+' envs/base.lock)"
	.venv/bin/python -m uv pip sync --quiet --compile-bytecode --require-hashes --python .venv/bin/python envs/base.lock
	@touch .venv/complete
