"""A pool of worker processes: each input has a row, a time limit, and a process of its own to crash in."""
