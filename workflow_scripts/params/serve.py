"""The `serve` section of params.yaml."""

from workflow_scripts.params.base import Section


class Serve(Section):
    """Parameters of the serve stage."""
