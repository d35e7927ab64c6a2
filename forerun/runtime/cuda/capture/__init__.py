"""Graphs that other programs capture: their images as they are loaded, their nodes, and clones with other code."""
