"""The file EasyR1 loads its reward from, by path and as a module of another name: nothing lives here but the way in."""

from workflow_scripts.grpo.rewards import compute_score

REWARD_NAME = "trackgraph"
REWARD_TYPE = "batch"
__all__ = ["REWARD_NAME", "REWARD_TYPE", "compute_score"]
