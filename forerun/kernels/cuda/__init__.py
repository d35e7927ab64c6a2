"""CUDA C++ of the kernels: one file a kernel, and what they share."""
