#!/usr/bin/env bash
# Lint and tests, in parallel. The first run installs what they need.
#   bash run_tests.sh                              everything, then what touches transformers on the oldest one that is allowed
#   bash run_tests.sh --newest                     what touches transformers or lmms-eval on the newest versions of everything
#   bash run_tests.sh --vllm                       the plugin in vLLM's engine on this machine's CPU, in an environment of its own
#   bash run_tests.sh tests/selection tests/methods          the fast tests; all arguments go to pytest (-n0: in one process)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
source .ci/venv.sh

if [ "${1:-}" = --vllm ]; then
    ensure_vllm_venv "$PWD"
    exec "$python" -m pytest tests/serve --durations 10 "${@:2}"
fi
take_newest "$@"

# What touches transformers and the loaders of checkpoints; and the evaluation with lmms-eval.
of_transformers=(
    tests/models tests/checkpoints tests/test_installation.py tests/test_readme.py tests/evaluate/test_embedded_run.py
)
of_lmms_eval=(tests/evaluate tests/lmms tests/answering tests/runs)

run_pytest() {
    "$python" -m pytest --numprocesses auto --maxprocesses 8 --dist loadfile "$@"
}

# print_newest RESULT: one line, the last, for whoever reads the end of a log.
print_newest() {
    local packages="transformers torch lmms-eval huggingface-hub datasets numpy filelock"
    echo "newest: $("$python" -c "
import platform, sys
from importlib.metadata import version
print(*(f'{name} {version(name)},' for name in sys.argv[1:]), 'Python', platform.python_version())
" $packages 2> /dev/null || echo "not installed"): $1"
}

if [ "$set" = newest ]; then
    python=""
    if ! ensure_venv "$PWD" newest dev; then
        print_newest "failed (installation)"
        exit 1
    fi
    if [ ${#arguments[@]} -eq 0 ]; then
        arguments=("${of_transformers[@]}" "${of_lmms_eval[@]}")
    fi
    run_pytest "${arguments[@]}" && code=0 || code=$?
    print_newest "$([ "$code" = 0 ] && echo passed || echo failed)"
    exit "$code"
fi

ensure_venv "$PWD" tested dev
if [ ${#arguments[@]} -gt 0 ]; then
    run_pytest "${arguments[@]}"
    exit
fi
"$python" -m ruff check .
"$python" -m ruff format --check .
"$python" -m mypy
run_pytest

# The packages in which the oldest set differs lie in a folder that goes before the tested ones.
differing="$(grep --invert-match --line-regexp --fixed-strings --file requirements/tested.txt requirements/oldest.txt)"
target=".cache/oldest-$(cksum <<< "$differing" | cut -d ' ' -f 1)"
if [ ! -e "$target/complete" ]; then
    echo "Installing the oldest transformers that is allowed into $target, once ..." >&2
    rm -rf "$target"
    "$python" -m pip install --quiet --disable-pip-version-check --no-deps --target "$target" --requirement <(echo "$differing")
    touch "$target/complete"
fi
echo "With $(grep --only-matching '^transformers==[0-9.]*' <<< "$differing"):"
export PYTHONPATH="$PWD/$target"
run_pytest "${of_transformers[@]}"
