"""The `sft` section of params.yaml."""

from workflow_scripts.params.base import Section


class Sft(Section):
    """Parameters of the sft stage."""
