#!/usr/bin/env bash
set -uo pipefail
usage() {
  cat <<'TEXT'
usage: [PYTHON=python3] bash benchmarks/on_gpu.sh [--dry] [--out FOLDER]

Everything that a GPU has to show, in at most 8 minutes on an H100. Needs torch and transformers alone. Every part runs
in a process of its own, at most as long as this script says, and writes its own file; a part that fails or runs out of
time is reported and the others go on. Ends with 0 if all parts did.

  --dry         the same parts on a CPU with the smallest models, in a few minutes
  --out FOLDER  where results go, made if need be; default: benchmarks/results/on_gpu of this checkout
  --help        this text

PYTHON: the interpreter that has torch and transformers; default: python3. The checkout itself need not be installed.
TEXT
}
refuse() {
  echo "on_gpu.sh: $1" >&2
  exit 2
}

dry="" out=""
while [ $# -gt 0 ]; do
  case "$1" in
    -h | --help) usage; exit 0 ;;
    --dry) dry=--dry ;;
    --out) [[ "${2:--}" != -* ]] || refuse "--out needs a folder."; out=$2; shift ;;
    --out=?*) out=${1#--out=} ;;
    *) refuse "unknown argument $1; valid: --dry, --out FOLDER, --help." ;;
  esac
  shift
done
[ -z "$out" ] || out=$(realpath -m -- "$out")
cd "$(dirname "$0")/.."
out=${out:-$PWD/benchmarks/results/on_gpu}
python=${PYTHON:-python3}
[ -x "$(command -v "$python")" ] || refuse "there is no interpreter $python: name one with PYTHON=."
"$python" -c 'import sys, torch, transformers; sys.exit(0 if sys.argv[1:] or torch.cuda.is_available() else 3)' $dry 2> /dev/null
case $? in
  0) ;;
  3) refuse "torch sees no CUDA GPU; --dry tries every part on the CPU." ;;
  *) refuse "$python has no torch or no transformers: name another with PYTHON=." ;;
esac
mkdir -p "$out" || refuse "nothing can be written to $out: name another folder with --out."
export PYTHONPATH=$PWD:$PWD/benchmarks${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1
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
