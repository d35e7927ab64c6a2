"""What the assembler made of a kernel: whether its loads stay ahead of the wait, and what fits on a multiprocessor."""
