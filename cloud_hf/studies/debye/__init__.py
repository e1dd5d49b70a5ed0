"""The Debye head against heads that learn heat capacities directly."""
