"""What the results are compared with, on the same data in the same run. Each peer: build, replace, query."""


class NotInstalled(Exception):
    """A peer is not to be had here; says why."""
