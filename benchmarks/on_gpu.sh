#!/usr/bin/env bash
# Everything that a GPU has to show, in at most 8 minutes on an H100: bash benchmarks/on_gpu.sh [--dry] [--out FOLDER]
#
# Needs torch and transformers alone. Every part runs in a process of its own, at most as long as it says here, and
# writes its own file; a part that fails or runs out of time is reported and the others go on. --dry: the same parts on
# a CPU with the smallest models, in a few minutes. --out: default benchmarks/results/on_gpu.
set -uo pipefail
cd "$(dirname "$0")/.."
dry="" out=benchmarks/results/on_gpu
while [ $# -gt 0 ]; do
  case "$1" in
    --dry) dry=--dry ;;
    --out) out=${2:?--out needs a folder}; shift ;;
    *) echo "on_gpu.sh: unknown argument $1; valid: --dry, --out FOLDER" >&2; exit 2 ;;
  esac
  shift
done
mkdir -p "$out"
export PYTHONPATH=$PWD:$PWD/benchmarks${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1
python=${PYTHON:-python3}
failed=0
for part in checks:110 selection:50 main:150 methods:100 questions:60; do
  name=${part%:*} limit=${part#*:}
  [ -z "$dry" ] || limit=$((2 * limit))
  rm -f "$out/$name.json"
  began=$SECONDS
  timeout --kill-after=5 "$limit" "$python" benchmarks/on_gpu.py "$name" $dry --out "$out" 2>&1 | tee "$out/$name.log"
  status=${PIPESTATUS[0]}
  echo "$name $status $((SECONDS - began)) $limit" > "$out/$name.status"
  [ "$status" -eq 0 ] || failed=1
done
timeout 20 "$python" benchmarks/on_gpu.py summary $dry --out "$out" || failed=1
exit $failed
