"""The eight structure tasks of MatBench v0.1 on their official folds."""
