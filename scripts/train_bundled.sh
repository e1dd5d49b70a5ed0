#!/usr/bin/env bash
# Make the checkpoints inside the package, with every figure about them: about three hours on 2 cores.
#   scripts/train_bundled.sh DATA_FOLDER [WORK_FOLDER]
# DATA_FOLDER holds the labelled tables, e.g. materials_project.parquet. A step that is finished is not run again.
set -euo pipefail
data=${1:?the folder with the tables}
work=${2:-runs/bundle}
here=$(dirname "$0")
train=(--bf16 true --use-cpu true --save-strategy no --license MIT --data-license CC-BY-4.0 --per-device-train-batch-size)
heat=(--split fold --refit true --no-baselines --debye heat_capacity --n-atoms n_atoms --head-dropout 0
    --target "heat_capacity:J/(mol cell K)" --num-train-epochs 50 --learning-rate 5e-4)
mkdir -p "$work"

[ -d "$work/split" ] || cloud-hf split "$data"/*.parquet --output "$work/split" --folds 5 --validation 0.1
[ -f "$work/rows.json" ] || python "$here/bundle_rows.py" --data "$data" --split "$work/split" --output "$work"
[ -f "$work/mlm/model.safetensors" ] || cloud-hf pretrain --config "$here/recipes/pretrain_bundled.yaml" \
    --data "$work/corpus.parquet" --output-dir "$work/mlm"
if [ ! -d "$work/start" ]; then # the encoder again, with dropout
    cp -r "$work/mlm" "$work/start"
    sed -i 's/"hidden_dropout_prob": 0.0/"hidden_dropout_prob": 0.05/' "$work/start/config.json"
fi
[ -f "$work/multitask/predictions.csv" ] || cloud-hf finetune --config "$here/recipes/finetune_properties.yaml" \
    --model "$work/start" --data "$work/multitask.parquet" --output-dir "$work/multitask"
[ -f "$work/heat_capacity_run/predictions.csv" ] || cloud-hf finetune --model "$work/multitask" \
    --data "$work/heat_capacity.parquet" "${heat[@]}" "${train[@]}" 32 --output-dir "$work/heat_capacity_run"
[ -f "$work/heat_capacity_mlm_run/predictions.csv" ] || cloud-hf finetune --model "$work/mlm" \
    --data "$work/heat_capacity.parquet" "${heat[@]}" "${train[@]}" 32 --output-dir "$work/heat_capacity_mlm_run"
[ -f "$work/refractive_index_run/predictions.csv" ] || cloud-hf finetune --model "$work/multitask" \
    --data "$work/refractive_index.parquet" --split fold --refit true --no-baselines --target "refractive_index:1" \
    --transform log --num-train-epochs 15 --learning-rate 4e-4 --head-dropout 0 "${train[@]}" 32 \
    --output-dir "$work/refractive_index_run"

# the trees, the package's folders, intervals and figures
weights=$(python -c 'import cloud_hf, pathlib; print(pathlib.Path(cloud_hf.__file__).with_name("weights"))')
results="$here/../docs/results"
python "$here/bundle_trees.py" --rows "$work"
python "$here/bundle_results.py" --rows "$work"
python "$here/bundle_checkpoint.py" --rows "$work"
for head in heat_capacity refractive_index; do
    cloud-hf calibrate --predictions "$work/scored/$head.csv" --checkpoint "$weights/$head" \
        --trees "$work/trees" --json "$results/intervals_$head.json"
done
cloud-hf calibrate --predictions "$work/multitask/predictions.csv" --checkpoint "$weights/crystal_properties" \
    --trees "$work/trees" --json "$results/intervals_crystal_properties.json"
cloud-hf predict "$work/wbm.parquet" --model "$weights/crystal_properties" --likelihood none \
    --output "$work/wbm_predictions.parquet"
python "$here/bundle_results.py" --rows "$work"
cloud-hf likelihood --model "$weights/likelihood" --inside "$work/held_out.parquet" --outside "$work/wbm.parquet" \
    --most 3000 --save --json "$results/ood.json"
table="$data/heat_capacity_structures_train.parquet"
cloud-hf study debye --data "$table" --predictions "$work/scored/transfer.csv" --checkpoints "$weights/heat_capacity" \
    --out "$work/transfer"
cp "$work/transfer/results.json" "$results/transfer.json"
cp "$work/transfer/measured.png" "$here/../docs/transfer.png"
cloud-hf study low-data --data "$table" --split "$work/split/heat_capacity_structures_train.split.parquet" --debye true \
    --per-cell true --target "cloud_cv_J_molcell_K:J/(mol cell K)" --sizes 50 100 200 400 800 0 --model "$work/multitask" \
    --num-train-epochs 30 --head-dropout 0.1 --out "$work/learning_curve"
cp "$work/learning_curve/results.json" "$results/learning_curve.json"
cp "$work/learning_curve/learning_curve.png" "$here/../docs/learning_curve.png"
python "$here/write_docs.py"
