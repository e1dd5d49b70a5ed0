"""Hypothetical crystals: prototypes and elements to candidates, their chance to meet wants, structures, neighbours."""
