"""What a program is: buffers, kernels, nodes, dependencies, the graph, its text and its meaning."""
