"""The `evaluate` module thermodynamic_consistency."""
