#!/usr/bin/env bash
# Makes requirements/tested.txt and requirements/oldest.txt anew with uv (https://docs.astral.sh/uv), for Python 3.11 to 3.14:
#   bash requirements/renew.sh    (after bash run_tests.sh, which installs uv into .venv; or with a uv of your own)
# tested.txt: what run_eval.sh and run_tests.sh install. oldest.txt: the same with the oldest transformers that
# pyproject.toml allows; only what that one needs differs. Run the tests on both before committing them.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
uv=.venv/bin/uv
[ -x "$uv" ] || uv=uv

# All extras but those of environments of their own: vllm pins torch and transformers, omni (moviepy) wants an older Pillow.
extras=()
for extra in $(sed -n '/^\[project.optional-dependencies\]/,/^$/s/^\([a-z]*\) = .*/\1/p' pyproject.toml); do
    [ "$extra" = vllm ] || [ "$extra" = omni ] || extras+=(--extra "$extra")
done

resolve() { # resolve NAME SOURCE...: writes requirements/NAME.txt; pins that are in it already stay where they can
    "$uv" pip compile --quiet --universal --python-version 3.11 --fork-strategy fewest --prerelease disallow "${extras[@]}" \
        --no-annotate --no-header --output-file "requirements/$1.txt" "${@:2}" > /dev/null
}

rm -f requirements/tested.txt
resolve tested pyproject.toml requirements/tested.in

oldest="$(sed -n 's/.*"transformers>=\([0-9.]*\)".*/\1/p' pyproject.toml | head -n 1)"
cp requirements/tested.txt requirements/oldest.txt
sed "s/^transformers==.*/transformers==$oldest.*/" requirements/tested.in > requirements/.oldest.in
trap 'rm -f requirements/.oldest.in' EXIT
resolve oldest pyproject.toml requirements/.oldest.in
