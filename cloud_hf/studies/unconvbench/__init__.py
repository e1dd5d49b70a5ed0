"""UnconvBench: exfoliation, two-dimensional crystals, frameworks, superconductors, defects."""
