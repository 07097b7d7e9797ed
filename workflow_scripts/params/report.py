"""The `report` section of params.yaml."""

from workflow_scripts.params.base import Section


class Report(Section):
    """Parameters of the report stage."""
