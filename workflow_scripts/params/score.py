"""The `score` section of params.yaml."""

from workflow_scripts.params.base import Section


class Score(Section):
    """Parameters of the score stage."""
