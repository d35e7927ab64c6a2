"""Diagnostics, options, files, JSON and lazy attributes, for all packages. Nothing here knows a graph."""
