"""Write `cloud_hf/screening/known_strings.parquet`: hashes of the canonical strings of known crystals.

    python scripts/build_known_strings.py CACHE materials_project.parquet ...

CACHE is a folder of encoded strings, as `cloud-hf split --cache` keeps them.
"""

import argparse
from pathlib import Path

from cloud_hf.data.kept_strings import encode_table
from cloud_hf.data.tables import read_table
from cloud_hf.screening.known import KNOWN_FILE, KnownStrings, string_hashes

TARGET = Path(__file__).resolve().parents[1] / "cloud_hf" / "screening" / KNOWN_FILE


def main() -> None:
    """Encode the tables and write the hashes."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("cache", type=Path)
    parser.add_argument("tables", nargs="+", type=Path)
    arguments = parser.parse_args()
    scopes: set[str] = set()
    for path in arguments.tables:
        strings = encode_table(read_table(path), path, arguments.cache)
        scopes |= {*strings["scope"].dropna()}
    known = KnownStrings(string_hashes(sorted(scopes)))
    known.save(TARGET)
    print(f"{len(scopes)} strings, {len(known)} hashes -> {TARGET.name}, {TARGET.stat().st_size} bytes")


if __name__ == "__main__":
    main()
