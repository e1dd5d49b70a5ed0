"""Train on the Materials Project, predict WBM, and tell which crystals are stable."""
