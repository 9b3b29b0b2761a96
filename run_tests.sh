#!/usr/bin/env bash
# Lint and tests. The first run installs what they need into .venv. Arguments go to pytest (and then nothing else runs).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
source .ci/venv.sh
ensure_venv "$PWD" dev
python="$PWD/.venv/bin/python"

if [ $# -gt 0 ]; then
    exec "$python" -m pytest "$@"
fi
"$python" -m ruff check .
"$python" -m ruff format --check .
"$python" -m pytest

# What touches transformers, once more on the oldest version that pyproject.toml allows.
oldest=5.17
target=".cache/transformers-$oldest"
if [ ! -e "$target/complete" ]; then
    echo "Installing transformers $oldest into $target, once ..." >&2
    rm -rf "$target"
    "$python" -m pip install --quiet --disable-pip-version-check --no-deps --target "$target" \
        "transformers==$oldest.*" "huggingface-hub>=1.5,<2" "tokenizers>=0.23.1,<0.24"
    touch "$target/complete"
fi
echo "With transformers $oldest:"
PYTHONPATH="$PWD/$target" "$python" -m pytest tests/checkpoints tests/models
