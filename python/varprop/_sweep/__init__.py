"""Simulations over a grid of networks: on this machine or a cluster, kept in a store."""

from varprop._sweep.sweep import PointError, open_sweep, sweep

__all__ = ["PointError", "open_sweep", "sweep"]
