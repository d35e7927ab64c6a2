"""What ``fuse-splits`` is made of: orders with few splits, and copies at the borders."""
