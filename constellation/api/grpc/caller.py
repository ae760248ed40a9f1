"""Who calls: looked at before anything else of a call is, its message included."""

from collections.abc import Mapping


def admit_caller(metadata: Mapping[str, str | bytes]) -> None:
    """Everybody may call."""
