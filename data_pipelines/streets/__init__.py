"""Procedural street scenes seen from a car: the embedded data set `streets`."""

from data_pipelines.streets.source import STYLES, Streets

__all__ = ["STYLES", "Streets"]
