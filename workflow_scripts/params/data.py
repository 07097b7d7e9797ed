"""The `data` section of params.yaml."""

from workflow_scripts.params.base import Section


class Data(Section):
    """Parameters of the data stage."""
