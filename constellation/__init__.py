"""Constellation: the server side of a distributed TV recommender."""

__version__ = "0.1.0"
