"""CLOUD as transformers sees it: configuration, tokenizer, models, heads, pipeline, and the physics of the heads.

These modules travel to the Hub as flat remote code, so they import one another relatively. Of the rest of the package
they import, inside functions and only where it is installed, two things: the pipeline reads crystals with `scope`, and
saved folders and pushes get the card and records of `checkpoints`. Remote code cannot be told of them in another way:
its modules are copies under other names, in which a registration by the package would set nothing.
"""
