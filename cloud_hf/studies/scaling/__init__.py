"""The loss of masked words against parameters, data and compute."""
