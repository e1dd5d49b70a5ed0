"""The `evaluate` module regression."""
