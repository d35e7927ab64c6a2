"""Calls of the CUDA driver: checked, with an owner for every handle. All that touches ``cuda.*``."""
