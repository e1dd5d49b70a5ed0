"""Whether a screening finds crystals that are known, after their whole family was hidden from the training."""
