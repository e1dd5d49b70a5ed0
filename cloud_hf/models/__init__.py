"""CLOUD as transformers sees it: configuration, tokenizer, models, heads, pipeline, and the physics of the heads.

These modules travel to the Hub as flat remote code, so they import one another relatively and nothing else of the
package, except inside `try` where the pipeline reads crystals with the package if it is there.
"""
