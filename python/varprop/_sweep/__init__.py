"""Simulations over a grid of networks: on this machine or a cluster, kept in a store."""
