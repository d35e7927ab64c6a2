"""What ``fuse-splits`` and ``place`` are made of: orders with few splits, copies at borders, and where nodes may run."""
