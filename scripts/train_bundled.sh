#!/usr/bin/env bash
# Make the checkpoints inside the package, with every figure about them: about fifteen hours of processor time, by the
# times of its parts, where the processor has bfloat16 products (AMX).
#   scripts/train_bundled.sh DATA_FOLDER [WORK_FOLDER]
# DATA_FOLDER holds the labelled tables, e.g. materials_project.parquet. A step that is finished is not run again.
set -euo pipefail
data=${1:?the folder with the tables}
work=${2:-runs/bundle}
here=$(dirname "$0")
mkdir -p "$work"

# one place for each crystal of every table (matbench_labels has those of materials_project)
tables=()
for table in materials_project wbm lemat jarvis aflow_agl mp_elastic heat_capacity_train heat_capacity_structures_train \
    dielectric_fold0_train nomad2018 published_scope_10k phonons phonon_binaries elastic_binaries elements acwf_elements; do
    tables+=("$data/$table.parquet")
done
[ -f "$work/split/leakage.md" ] || cloud-hf split "${tables[@]}" --output "$work/split" --folds 3 --validation 0.1 --processes 2
[ -f "$work/rows.json" ] || python "$here/bundle_rows.py" --split "$work/split" --output "$work"
[ -f "$work/mlm/model.safetensors" ] || cloud-hf pretrain --config "$here/recipes/pretrain_bundled.yaml" \
    --data "$work/corpus.parquet" --output-dir "$work/mlm"

# all heads: a run for each fold, which it keeps back, for every figure and interval. It goes on once, with more weight of
# energies and moduli, which costs no other head anything beyond doubt. The members go on from its first stage over all rows,
# where elements come often, since they are few and what everyone looks at first, and with these weights step by step, gaps
# at the end. Stages 4 to 6 are averaged, which is better than the last of them on most heads; from their mean stage 7 goes on
# at a low learning rate, and a member is the mean of these four.
# `refit_0` goes on as the members do but keeps the validation part of all rows back, so that its crystals of fold 0 tell
# what going on is worth and how wide the members' intervals are
joint() { # NAME ARGUMENTS: the joint table lies beside the runs
    local name=$1
    shift
    [ -f "$work/joint/$name/model.safetensors" ] || cloud-hf joint --config "$here/recipes/joint.yaml" \
        --data "$data" --split "$work/split" --output-dir "$work/joint/$name" "$@"
}
mean() { # NAME FOLDERS
    local name=$1
    shift
    [ -f "$work/joint/$name/model.safetensors" ] || python "$here/average_runs.py" "$@" --output "$work/joint/$name"
}
again=(--learning-rate 4e-4 --repeat-elements 20)
energies=(formation_energy_per_atom=3 mpts52_formation_energy=2.4)
weighted=("${energies[@]}" megnet2018_e_form=6 bulk_modulus=2 shear_modulus=2)
going_on() { # NAME FOLD ARGUMENTS
    local name=$1 fold=$2
    shift 2
    set -- "${again[@]}" "$@"
    joint "stage_2_$name" --model "$work/joint/stage_1_fold_$fold" --seed "4$fold" --num-train-epochs 8 "$@"
    joint "stage_3_$name" --model "$work/joint/stage_2_$name" --seed "5$fold" --num-train-epochs 8 "$@" \
        --target-weights "${energies[@]}" megnet2018_e_form=3
    joint "stage_4_$name" --model "$work/joint/stage_3_$name" --seed "6$fold" --num-train-epochs 10 "$@" \
        --target-weights "${energies[@]}" megnet2018_e_form=5 bulk_modulus=1.5 shear_modulus=1.5
    joint "stage_5_$name" --model "$work/joint/stage_4_$name" --seed "8$fold" --num-train-epochs 10 "$@" \
        --target-weights "${weighted[@]}"
    joint "stage_6_$name" --model "$work/joint/stage_5_$name" --seed "3$fold" --num-train-epochs 10 "$@" \
        --target-weights "${energies[@]}" megnet2018_e_form=8 bulk_modulus=3 shear_modulus=3 band_gap=1.6 megnet2018_gap_pbe=1.6
    mean "mean_$name" "$work/joint/stage_"{4,5,6}"_$name"
    joint "stage_7_$name" --model "$work/joint/mean_$name" --seed "2$fold" --num-train-epochs 2 "$@" --learning-rate 1e-4 \
        --target-weights "${weighted[@]}" band_gap=1.2 megnet2018_gap_pbe=1.2
    mean "$name" "$work/joint/stage_"{4,5,6,7}"_$name"
}
for fold in 0 1 2; do
    joint "stage_1_fold_$fold" --model "$work/mlm" --fold $fold --seed 7$fold
    joint "fold_$fold" --model "$work/joint/stage_1_fold_$fold" --fold $fold --seed 9$fold --num-train-epochs 10 "${again[@]}" \
        --target-weights "${weighted[@]}"
    going_on "member_$fold" $fold --all-rows true
done
going_on refit_0 0

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
cloud-hf likelihood --model "$weights/likelihood" --inside "$work/split/materials_project.split.parquet:validation" --most 3000 \
    --save
cloud-hf likelihood --model "$weights/likelihood" --distil "$weights/crystal_properties" \
    --learn "$work/split/materials_project.split.parquet:train" "$work/split/lemat.split.parquet:train" \
    --most-learned 48000 --inside "$work/split/materials_project.split.parquet:validation" \
    --outside "$work/split/wbm.split.parquet" --most 3000 \
    --json "$results/ood.json"
python "$here/ablate_bundled.py" --rows "$work" --data "$data"

# few labels: on crystals of fold 0, from the encoder that kept them back; of a thermal conductivity it has seen no label
few() { # NAME TABLE ARGUMENTS
    local name=$1 table=$2
    shift 2
    python "$here/rows_of_fold.py" --data "$data/$table.parquet" --split "$work/split/$table.split.parquet" --fold 0 \
        --output "$work/few_labels/$name.parquet"
    cloud-hf study low-data --data "$work/few_labels/$name.parquet" --model "$work/joint/stage_1_fold_0" --arms auto trees \
        --out "$work/few_labels/$name" "$@"
    cp "$work/few_labels/$name/results.json" "$results/few_labels_$name.json"
}
few heat_capacity heat_capacity_structures_train --debye true --per-cell true \
    --target "cloud_cv_J_molcell_K:J/(mol cell K)" --sizes 50 100 150
few refractive_index dielectric_fold0_train --transform log --target "refractive_index:1" --sizes 50 100 200 400
few thermal_conductivity aflow_agl --transform log --target "thermal_conductivity:W/(m K)" --sizes 50 100 200 400
python "$here/write_docs.py"
