"""Weights on disk and on the Hub: read, convert, export, publish, and the checkpoints that ship with the package."""
