"""Where attention goes and what predictions depend on, beside a model with random weights."""
