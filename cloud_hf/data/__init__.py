"""Labelled tables and their splits: CSV, JSON Lines and Parquet in and out, folds by crystal, leakage reports."""
