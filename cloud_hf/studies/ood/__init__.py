"""Errors on crystals of kinds that were left out of the training."""
