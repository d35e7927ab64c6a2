"""Kernels of a step for a few sequences at once, which reads the weights once.

Batched kernels take up to eight vectors, each of them a token: of several sequences, or several of one. What a vector
gives does not depend on the others, bit by bit.
"""
