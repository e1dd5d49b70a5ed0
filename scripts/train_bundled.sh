#!/usr/bin/env bash
# Make the checkpoints inside the package, with every figure about them: about eight hours on 2 cores, by the times of its parts.
#   scripts/train_bundled.sh DATA_FOLDER [WORK_FOLDER]
# DATA_FOLDER holds the labelled tables, e.g. materials_project.parquet. A step that is finished is not run again.
set -euo pipefail
data=${1:?the folder with the tables}
work=${2:-runs/bundle}
here=$(dirname "$0")
mkdir -p "$work"

[ -d "$work/split" ] || cloud-hf split "$data"/*.parquet --output "$work/split" --folds 3 --validation 0.1
[ -f "$work/rows.json" ] || python "$here/bundle_rows.py" --data "$data" --split "$work/split" --output "$work"
[ -f "$work/mlm/model.safetensors" ] || cloud-hf pretrain --config "$here/recipes/pretrain_bundled.yaml" \
    --data "$work/corpus.parquet" --output-dir "$work/mlm"
if [ ! -d "$work/start" ]; then # the encoder again, with dropout
    cp -r "$work/mlm" "$work/start"
    sed -i 's/"hidden_dropout_prob": 0.0/"hidden_dropout_prob": 0.05/' "$work/start/config.json"
fi
[ -f "$work/multitask/predictions.csv" ] || cloud-hf finetune --config "$here/recipes/finetune_properties.yaml" \
    --model "$work/start" --data "$work/multitask.parquet" --output-dir "$work/multitask"

# all heads: three runs a fold, each from where the last ended, for every figure and interval; the members go on from the
# third runs over all rows, where elements come often, since they are few and what everyone looks at first
# (the weights in the package had their first two runs when joint_table.yaml gave energies the weight 1 and gaps 0.6)
joint() { # NAME ARGUMENTS: the joint table lies beside the runs
    local name=$1
    shift
    [ -f "$work/joint/$name/model.safetensors" ] || cloud-hf joint --config "$here/recipes/joint.yaml" \
        --data "$data" --split "$work/split" --output-dir "$work/joint/$name" "$@"
}
for fold in 0 1 2; do
    joint "first_$fold" --model "$work/multitask" --fold $fold --repeat-vibrations 3
    joint "second_$fold" --model "$work/joint/first_$fold" --fold $fold --repeat-vibrations 3 --learning-rate 3e-4 \
        --seed 1$fold
    joint "third_$fold" --model "$work/joint/second_$fold" --fold $fold --num-train-epochs 5 --learning-rate 3e-4 \
        --seed 3$fold
    joint "member_$fold" --model "$work/joint/third_$fold" --all-rows true --num-train-epochs 3 --learning-rate 2e-4 \
        --repeat-elements 20 --seed 4$fold
done

# the trees, the package's folders, intervals and figures
weights=$(python -c 'import cloud_hf, pathlib; print(pathlib.Path(cloud_hf.__file__).with_name("weights"))')
results="$here/../docs/results"
python "$here/joint_trees.py" --table "$work/joint/joint.parquet" --out "$work/trees" --light
python "$here/bundle_results.py" --rows "$work" --data "$data"
python "$here/ablate_joint.py" --rows "$work" --data "$data"
python "$here/bundle_checkpoint.py" --rows "$work"
python "$here/build_known_crystals.py"
cloud-hf calibrate --predictions "$work/predictions.csv" --checkpoint "$weights/crystal_properties" \
    --json "$results/intervals.json"
cloud-hf likelihood --model "$weights/likelihood" --distil "$weights/crystal_properties" \
    --learn "$work/split/materials_project.split.parquet:train" "$work/split/lemat.split.parquet:train" \
    --most-learned 16000 --inside "$work/split/materials_project.split.parquet:validation" \
    --outside "$work/split/wbm.split.parquet" --most 3000 \
    --json "$results/ood.json"
python "$here/ablate_runs.py" --rows "$work" --data "$data"
# few labels: on crystals of fold 0, from the encoder that kept them back
few() { # NAME TABLE ARGUMENTS
    local name=$1 table=$2
    shift 2
    python "$here/rows_of_fold.py" --data "$data/$table.parquet" --split "$work/split/$table.split.parquet" --fold 0 \
        --output "$work/few_labels/$name.parquet"
    cloud-hf study low-data --data "$work/few_labels/$name.parquet" --model "$work/joint/second_0" --arms auto trees \
        --out "$work/few_labels/$name" "$@"
    cp "$work/few_labels/$name/results.json" "$results/few_labels_$name.json"
}
few heat_capacity heat_capacity_structures_train --debye true --per-cell true \
    --target "cloud_cv_J_molcell_K:J/(mol cell K)" --sizes 50 100 150
few refractive_index dielectric_fold0_train --transform log --target "refractive_index:1" --sizes 50 100 200 400
table="$data/heat_capacity_structures_train.parquet"
cloud-hf study low-data --data "$table" --split "$work/split/heat_capacity_structures_train.split.parquet" --debye true \
    --per-cell true --target "cloud_cv_J_molcell_K:J/(mol cell K)" --sizes 50 100 200 400 800 0 --model "$work/multitask" \
    --num-train-epochs 30 --head-dropout 0.1 --out "$work/learning_curve"
cp "$work/learning_curve/results.json" "$results/learning_curve.json"
cp "$work/learning_curve/learning_curve.png" "$here/../docs/learning_curve.png"
python "$here/write_docs.py"
