"""The `evaluate` module mae_mad."""
