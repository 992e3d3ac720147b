"""A pass through any model, trial after trial, told as a run.

The model is lent, and given back; hooks watch its calls; these are the steps, and what was observed
of them in all trials is the run.
"""
