"""C++ for the host of kernels of :mod:`forerun.kernels`, by the name of their CUDA C++; see docs/splits.md."""
