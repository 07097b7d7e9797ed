"""The `grpo` section of params.yaml."""

from workflow_scripts.params.base import Section


class Grpo(Section):
    """Parameters of the grpo stage."""
