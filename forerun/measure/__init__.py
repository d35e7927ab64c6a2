"""Measuring programs: statistics, what a node must move, the ceiling of a GPU, traces.

Only the command line and the benchmarks measure; compiling needs nothing of it.
"""
