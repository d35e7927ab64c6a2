"""From the IR to an explicit CUDA graph with typed edges."""
