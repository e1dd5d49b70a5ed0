"""Answers from a checkpoint: predictions, intervals, likelihoods, errors on labelled tables, pictures."""
