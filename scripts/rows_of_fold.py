"""Write the rows of a table in one fold: `python scripts/rows_of_fold.py --data T --split S --fold 0 --output O`.

`S` is what `cloud-hf split` wrote of the table `T`; both are Parquet. Rows without a string are in no fold.
"""

import argparse
from pathlib import Path

from cloud_hf.data.tables import read_table, write_table


def main() -> None:
    """Read, select, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="table")
    parser.add_argument("--split", type=Path, required=True, help="its TABLE.split.parquet")
    parser.add_argument("--fold", type=int, required=True, help="which, from 0")
    parser.add_argument("--output", type=Path, required=True, help="table to write")
    arguments = parser.parse_args()
    table, split = read_table(arguments.data), read_table(arguments.split)
    kept = split[(split.fold == arguments.fold) & split.error.isna()]
    write_table(table.iloc[kept["row"].astype(int)].reset_index(drop=True), arguments.output)
    print(f"{arguments.output}: {len(kept)} of {len(table)} rows")


if __name__ == "__main__":
    main()
