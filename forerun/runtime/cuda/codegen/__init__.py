"""From kernel nodes to code: CUDA C++ for each specialisation, compiled. Needs no driver and no GPU."""
