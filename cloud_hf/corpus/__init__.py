"""Corpora: millions of crystals, from wherever they are, to deduplicated Parquet shards of SCOPE strings.

A corpus is a folder::

    corpus.json              settings, versions, counts, rows of each shard; written last, so a folder with it is whole
    shards/00000.parquet     the rows, one file per task, in the order of the inputs
    duplicates/00000.parquet crystals whose canonical string an earlier row has: source, id, provider, license, hash
    quarantine/00000.parquet crystals that have no string: source, id, provider, license, error (its type), reason
    README.md                the dataset card with its pictures, written by `cloud-hf corpus push`
    work/                    the plan (what each task reads), markers of finished tasks, logs

Every input crystal is in exactly one of the three tables. Columns of a shard::

    sites, composition, full  canonical strings of the crystal, a column per grammar; a disordered crystal has only
                              `composition`
    hash                      first 16 bytes, in hex, of SHA-256 of the canonical string: `sites`, else `composition`;
                              unique in the corpus
    formula, space_group      reduced formula; number in the International Tables
    n_sites, n_atoms          sites of the cell that was given; atoms per primitive cell
    source, id                where the row comes from (file, `archive#member`, `table:row`), and its own identifier
    provider, license         as the input says; the provider is the name of the input where it says nothing
    encoder, versions         `ScopeEncoder.settings`, and the packages that made the row

The tasks are fixed by the inputs, never by the number of processes, and run by datatrove's executors: on this machine,
on Slurm, on Ray. Each task writes its files aside and renames them; a duplicate is decided by the order of the inputs.
So a run that was killed goes on where it was, and ends with the same rows however often and with however many
processes it was started.
"""

from cloud_hf.corpus.build import BuildSettings, build_corpus
from cloud_hf.corpus.shards import Corpus, open_corpus

__all__ = ["BuildSettings", "Corpus", "build_corpus", "open_corpus"]
