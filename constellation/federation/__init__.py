"""Rounds: what all shards have learned, merged once an hour and given back to each. docs/federation.md."""

from constellation.federation.merging import FederationCoordinator
from constellation.federation.terms import RefusedPartial, RoundTerms

__all__ = ["FederationCoordinator", "RefusedPartial", "RoundTerms"]
