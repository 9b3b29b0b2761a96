#!/usr/bin/env bash
# Evaluates a video LLM under ST-SimDiff with lmms-eval. The first run installs what it needs into .venv.
#   bash run_eval.sh                                        the embedded checkpoint on two real clips
#   MODEL_PATH=/path/to/llava-video bash run_eval.sh        VideoMME at retention 0.3
#   bash run_eval.sh --model st_simdiff_qwen2_5_vl --model_path /path/to/qwen2.5-vl        another family
#   bash run_eval.sh --help                                 everything else
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
source "$root/.ci/venv.sh"
ensure_venv "$root" eval,clips,report,synth
exec "$root/.venv/bin/python" -m st_simdiff eval "$@"
