"""Statistics of a model while it trains.

Steps are counted by hooks on optimizers; a watch listens to the passes of those that are recorded;
what it hears becomes a record; records are a history, drawn, tabled and kept in a file.
"""
