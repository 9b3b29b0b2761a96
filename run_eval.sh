#!/usr/bin/env bash
# Evaluates video LLMs under ST-SimDiff and other methods with lmms-eval. The first run installs what it needs into .venv: the
# versions of requirements/tested.txt; or with --newest the newest that pyproject.toml allows, into .venv-newest, and the
# results go to logs-newest.
# Killed and started again, the same command goes on where it stopped.
#   bash run_eval.sh                                        the embedded trained model on its own questions
#   MODEL_PATH=lmms-lab/LLaVA-Video-7B-Qwen2 bash run_eval.sh    VideoMME at retention 0.3 (or a folder)
#   bash run_eval.sh --config configs/table1.yaml --dry-run the runs of the paper's Table 1, and their hours
#   bash run_eval.sh --model st_simdiff_qwen2_5_vl --model_path /path/to/qwen2.5-vl        another family
#   bash run_eval.sh --help                                 everything else
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
source "$root/.ci/venv.sh"
take_newest "$@"
ensure_venv "$root" "$set" eval,clips,report,synth
if [ "$set" = newest ]; then
    # Before the caller's own, which decide: a run that the tested versions finished is another run.
    arguments=(--output_path logs-newest ${arguments[@]+"${arguments[@]}"})
fi
exec "$python" -m st_simdiff eval ${arguments[@]+"${arguments[@]}"}
