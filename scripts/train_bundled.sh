#!/usr/bin/env bash
# Make the bundled checkpoint: encode, pre-train, fine-tune, copy into the package. About an hour and a half on 2 cores.
#   scripts/train_bundled.sh DATA_FOLDER [WORK_FOLDER]
# DATA_FOLDER holds materials_project.parquet, published_scope_10k.parquet and heat_capacity_train.parquet.
set -euo pipefail
data=${1:?the folder with the tables}
work=${2:-runs/bundled}
here=$(dirname "$0")
mkdir -p "$work"
cloud-hf encode "$data/materials_project.parquet" --grammar composition --released -o "$work/materials_project.parquet"
cloud-hf pretrain --config "$here/recipes/pretrain_small.yaml" --output_dir "$work/encoder" \
    --data "$data/published_scope_10k.parquet" "$work/materials_project.parquet"
cloud-hf finetune --config "$here/recipes/finetune_heat_capacity.yaml" --output_dir "$work/heat_capacity" \
    --model "$work/encoder" --data "$data/heat_capacity_train.parquet"
python "$here/bundle_checkpoint.py" "$work/heat_capacity" heat_capacity "$work/encoder"
python "$here/write_docs.py"
