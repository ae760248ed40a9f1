"""Simulated TVs: households with tastes drawn from the catalogue, each a real `constellation.client`, against a URL."""
