# Sourced by run_eval.sh and run_tests.sh.

# ensure_venv ROOT EXTRAS: makes ROOT/.venv with this project and the comma-separated EXTRAS, unless that was done before.
# Done again when pyproject.toml changes or the checkout moves.
ensure_venv() {
    local root="$1" extras="$2" venv="$1/.venv" base="" candidate
    local stamp="$venv/.installed-${extras//,/-}" key
    key="$root $(cksum < "$root/pyproject.toml")"
    if [ "$(cat "$stamp" 2>/dev/null)" = "$key" ]; then
        return 0
    fi
    if ! "$venv/bin/python" -m pip --version > /dev/null 2>&1; then
        for candidate in python3 python3.13 python3.12 python3.11 python3.14 python; do
            if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
                base="$candidate"
                break
            fi
        done
        if [ -z "$base" ]; then
            echo "Python 3.11 or newer is needed, and none is on the PATH." >&2
            return 1
        fi
        "$base" -m venv --clear "$venv"
    fi
    echo "Installing into $venv, once (a few GB with PyTorch: this takes minutes) ..." >&2
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --editable "$root[$extras]"
    echo "$key" > "$stamp"
}
