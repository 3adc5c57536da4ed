# Makes the virtual environments of tests/run and deploy/quickstart; to be sourced by bash.
#
# One environment for each purpose, Python version and list of dependencies, under
# .cache/, with the checkout installed in place. What is installed by hand is never
# used, and nothing outside .cache/ is written (but zstreampub.egg-info).

# make_venv PURPOSE EXTRA: sets VENV to the environment's folder; ends the script if it cannot be made.
make_venv() {
    local python=${PYTHON:-python3} version key
    command -v "$python" >/dev/null || give_up "There is no '$python'. On Debian or Ubuntu: sudo apt-get install python3 python3-venv"
    version=$("$python" -c 'import platform; print(platform.python_version())') || give_up "'$python' does not run."
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
        give_up "'$python' is Python $version; zstreampub needs 3.10 or newer. PYTHON=/path/to/python3.x chooses another."
    key=$(sed '/^\[tool:pytest\]/,$d' setup.cfg | sha256sum | cut -c1-8)     # what follows is not installed
    VENV=$PWD/.cache/$1-$version-$key
    mkdir -p .cache
    (
        flock 9     # two runs at once: the second waits and finds the work done
        [ -e "$VENV/ready" ] || build_venv "$python" "$version" "$2"
    ) 9>.cache/lock || exit 1
    touch "$VENV/ready"
    forget_old_venvs "$1"
}

# What no run has used for two weeks goes, or every change of setup.cfg would leave 100 MB behind.
forget_old_venvs() {
    find .cache -mindepth 2 -maxdepth 2 -path ".cache/$1-*/ready" -mtime +14 -printf '%h\0' | xargs -0r rm -rf
}

build_venv() {
    local python=$1 version=$2 extra=$3 log=$VENV.log
    echo "Making $VENV (once; Python $version, takes a minute) ..." >&2
    rm -rf "$VENV"
    if ! "$python" -c 'import venv, ensurepip' 2>/dev/null; then
        give_up "'$python' cannot make virtual environments. On Debian or Ubuntu: sudo apt-get install python3-venv (or python${version%.*}-venv)"
    fi
    "$python" -m venv "$VENV" >"$log" 2>&1 || give_up_with "$log" "The virtual environment could not be made."
    "$VENV/bin/python" -m pip install --disable-pip-version-check --use-pep517 -e ".[$extra]" >>"$log" 2>&1 ||
        give_up_with "$log" "The packages could not be installed. Is there a way to a package registry (see 'pip config list')?"
    rm -f "$log"
    touch "$VENV/ready"
}

give_up() {
    echo "${0##*/}: $1" >&2
    exit 1
}

give_up_with() {
    tail -n 20 "$1" >&2
    give_up "$2 The whole log: $1"
}
