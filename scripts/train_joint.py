"""Train the model of all heads: labels of many tables, one encoder, scalar targets and the phonon density of states.

`cloud-hf split DATA/*.parquet --output SPLIT` assigns crystals to folds first. Then

    python scripts/train_joint.py --config scripts/recipes/joint.yaml --model ENCODER --data DATA --split SPLIT
                                  --output-dir runs/a

joins the labels (`scripts/recipes/joint_table.yaml` says which) in `runs/joint.parquet`, trains on all but the
validation part (or `--fold K`, or `--all-rows true`), and writes the model, its predictions of the rows kept back and
their errors. Stopped anywhere, the same command goes on exactly.
"""

import sys

from cloud_hf.cli.recipes import parse_recipe
from cloud_hf.training.joint import JointArguments, train_joint


def main() -> None:
    """Train and print the errors on the rows kept back."""
    print(train_joint(*parse_recipe("joint", JointArguments, sys.argv[1:])))


if __name__ == "__main__":
    main()
