"""The memory of a program on the device: weights, inputs, outputs, and arrays of other libraries."""
