"""PyTorch's modules as networks of varprop, and networks as modules."""
