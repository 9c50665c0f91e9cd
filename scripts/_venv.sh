# Sourced by the scripts beside it: `use_venv EXTRA` makes ready a private virtual environment in .venv, with the
# package and its extra ("" for none), and sets $bin to its programs. Needs Python 3.11 or later; any user.

cd "$(dirname "$0")/.."

find_python() {
    for python in python3.11 python3.12 python3.13 python3; do
        if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            return
        fi
    done
    echo "$0: needs Python 3.11 or later, and finds none" >&2
    exit 1
}

use_venv() {
    extra=$1
    bin=$PWD/.venv/bin
    find_python
    # Two scripts may start at the same time in one tree: the second waits until the environment is there.
    exec 9>.venv.lock
    flock 9 2>/dev/null || true  # a system without flock(1): do not start two at once on a new tree
    make_venv
    exec 9>&-
}

make_venv() {
    wanted=$(cat setup.cfg pyproject.toml | cksum)
    if [ "$(cat ".venv/ready-$extra" 2>/dev/null)" = "$wanted" ]; then
        return
    fi
    if [ ! -x "$bin/pip" ]; then
        rm -rf .venv
        if ! "$python" -m venv .venv >/dev/null 2>&1; then
            rm -rf .venv
            echo "$0: $python has no venv module; on Debian: apt-get install python3-venv" >&2
            exit 1
        fi
    fi
    package=.${extra:+[$extra]}
    echo "setting up a private environment in .venv ..." >&2
    if ! "$bin/pip" install --quiet --disable-pip-version-check --editable "$package" >.venv/pip.log 2>&1; then
        cat .venv/pip.log >&2
        exit 1
    fi
    echo "$wanted" >".venv/ready-$extra"
}
