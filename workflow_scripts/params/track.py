"""The `track` section of params.yaml."""

from workflow_scripts.params.base import Section


class Track(Section):
    """Parameters of the track stage."""
