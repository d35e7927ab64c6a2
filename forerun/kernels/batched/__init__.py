"""Kernels of decode steps for a few sequences at once, which read the weights once.

A batched kernel takes up to eight vectors, one for each token: of several sequences, or several of one. The result of
a vector does not depend on the others, bit for bit.
"""
