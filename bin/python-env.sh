# shellcheck shell=sh
# Finds a Python, makes the virtual environment and installs the project into it.
# Sourced by fast-try.sh, test.sh and the scripts in bin/. The caller sets `root`, the checkout.
#
# Read from the environment:
#   PYTHON         the interpreter to make the virtual environment with
#   LEDGERMQ_VENV  where the virtual environment lies, default <checkout>/.venv
#   LEDGERMQ_COMPILE=1  install the compiled parts too, from now on; 0: no longer
# pip's own settings (index, proxy, certificates) reach pip unchanged.

EXIT_FAILED=1
EXIT_NO_PYTHON=3

venv=${LEDGERMQ_VENV:-$root/.venv}
python=$venv/bin/python
stamp=$venv/.ledgermq-installed
packages="remoting dledger broker namesrv client admin compiled"

say() {
    printf '%s\n' "$*"
}

warn() {
    printf '%s\n' "$*" >&2
}

# fail CODE LINE...: the lines to stderr, then exit.
fail() {
    fail_code=$1
    shift
    for fail_line in "$@"; do warn "$fail_line"; done
    exit "$fail_code"
}

# --- locks: a directory, since mkdir is atomic everywhere -------------------------------------

LOCK_WAIT_S=300

process_lives() {
    [ -n "$1" ] && { kill -0 "$1" 2>/dev/null || [ -d "/proc/$1" ]; }
}

# take_lock DIR: wait until no living process holds it.
take_lock() {
    lock_until=$(($(date +%s) + LOCK_WAIT_S))
    while ! mkdir "$1" 2>/dev/null; do
        [ -d "$1" ] || fail "$EXIT_FAILED" "Cannot write in $(dirname "$1"). Make it writable," \
            "or choose other places: STORE_ROOT (data), LEDGERMQ_VENV (virtual environment)."
        lock_holder=$(cat "$1/pid" 2>/dev/null)
        if [ -n "$lock_holder" ] && ! process_lives "$lock_holder"; then
            rm -rf "$1"
        elif [ "$(date +%s)" -ge "$lock_until" ]; then
            fail "$EXIT_FAILED" "Process ${lock_holder:-?} has held $1 for $LOCK_WAIT_S s." \
                "If it is not one of ours, remove that folder and try again."
        else
            sleep 0.2
        fi
    done
    printf '%s\n' "$$" >"$1/pid"
}

# drop_lock DIR: nothing happens when it is another process's.
drop_lock() {
    if [ "$(cat "$1/pid" 2>/dev/null)" = "$$" ]; then rm -rf "$1"; fi
}

# --- the interpreter ----------------------------------------------------------------------------

PROBE='
import sys
if sys.version_info < (3, 11):
    sys.exit(4)
try:
    import ensurepip, venv
except ImportError:
    print("python%d.%d" % sys.version_info[:2])
    sys.exit(5)
'

# install_lines APT_PACKAGES
install_lines() {
    warn "  Debian, Ubuntu, WSL2:  sudo apt-get install $1"
    warn "  Fedora, RHEL:          sudo dnf install python3.12"
    warn "  macOS:                 brew install python@3.13"
    warn "Or name one: PYTHON=/path/to/python3"
}

# A candidate must really run: a version manager's shim can be on PATH without its Python.
find_python() {
    lacks_ensurepip=
    for candidate in ${PYTHON:+"$PYTHON"} python3.13 python3.12 python3.11 python3; do
        probe_says=$("$candidate" -I -c "$PROBE" 2>/dev/null)
        case $? in
        0)
            base_python=$candidate
            return 0
            ;;
        4) problem="is older than 3.11" ;;
        5)
            problem="has no ensurepip"
            lacks_ensurepip=${lacks_ensurepip:-$probe_says}
            ;;
        *) problem="does not run" ;;
        esac
        if [ "$candidate" = "${PYTHON:-}" ]; then
            warn "PYTHON=$PYTHON $problem; looking for another."
        fi
    done
    return 1
}

no_python() {
    if [ -n "$lacks_ensurepip" ]; then
        warn "$lacks_ensurepip is here, but without ensurepip, which makes virtual environments."
        install_lines "$lacks_ensurepip-venv"
    else
        warn "No usable Python: ledgermq needs 3.11 or newer, with ensurepip."
        install_lines "python3 python3-venv   (Ubuntu 22.04: python3.11 python3.11-venv)"
    fi
    exit "$EXIT_NO_PYTHON"
}

# --- the installation ---------------------------------------------------------------------------

# Checksums, not times: an unpacked archive brings files older than the stamp.
fingerprint() (
    cd "$root" || exit 1
    # shellcheck disable=SC2086  # a list of folder names
    find pyproject.toml hatch_build.py ledgermq/__init__.py $packages \
        -name __pycache__ -prune -o -type f -exec cksum {} + | LC_ALL=C sort | cksum
)

# is_installed EXTRA: true when the environment holds these sources, with EXTRA ("" = none).
is_installed() {
    [ -x "$python" ] && [ -f "$stamp" ] || return 1
    stamp_compiled=
    { read -r stamp_print && read -r stamp_extra && read -r stamp_compiled; } <"$stamp" 2>/dev/null
    [ "$stamp_print" = "$(fingerprint)" ] && { [ -z "$1" ] || [ "$stamp_extra" = "$1" ]; } &&
        case ${LEDGERMQ_COMPILE:-} in
        1) [ "$stamp_compiled" = compiled ] ;;
        0) [ -z "$stamp_compiled" ] ;;
        esac
}

check_links() {
    for package in $packages; do
        [ -d "$root/ledgermq/$package" ] || fail "$EXIT_FAILED" \
            "$root/ledgermq/$package is not a link to ../$package: this copy lost its symbolic links" \
            "(a Windows drive, or git with core.symlinks=false). Clone or unpack it again on a" \
            "file system that has them; in WSL2 that is the Linux home folder, not /mnt/c."
    done
}

make_venv() {
    if [ -e "$venv" ] && [ ! -f "$venv/pyvenv.cfg" ] && [ -n "$(ls -A "$venv" 2>/dev/null)" ]; then
        fail "$EXIT_FAILED" "$venv holds something that is not a virtual environment." \
            "Point LEDGERMQ_VENV at a new folder."
    fi
    find_python || no_python
    warn "Making the virtual environment $venv with $base_python ..."
    "$base_python" -I -m venv --clear "$venv" || fail "$EXIT_NO_PYTHON" \
        "Could not make $venv: see above. If the folder is not writable, set LEDGERMQ_VENV."
}

pip_install() (
    cd "$root" || exit 1
    # A person's settings for installs outside a virtual environment must not reach inside.
    unset PIP_TARGET PIP_PREFIX PIP_ROOT PYTHONHOME
    # Hatchling's own switch for what hatch_build.py adds.
    if [ "$2" = compiled ]; then export HATCH_BUILD_HOOKS_ENABLE=1; fi
    PIP_USER=0 "$python" -m pip install --quiet --disable-pip-version-check ".${1:+[$1]}"
)

# In a subshell, so that its traps are its own; another process may be installing too.
install_locked() (
    check_links
    mkdir -p "$(dirname "$venv")" 2>/dev/null
    take_lock "$venv.lock"
    trap 'drop_lock "$venv.lock"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    extra=$1
    is_installed "$extra" && exit 0
    compiled=
    if [ -f "$stamp" ]; then
        { read -r _ && read -r old_extra && read -r compiled; } <"$stamp"
        extra=${extra:-$old_extra}
    fi
    case ${LEDGERMQ_COMPILE:-} in
    1) compiled=compiled ;;
    0) compiled= ;;
    esac
    "$python" -m pip --version >/dev/null 2>&1 || make_venv
    # What was asked for outlives an installation that does not come to its end.
    printf 'unfinished\n%s\n%s\n' "$extra" "$compiled" >"$stamp"
    warn "Installing ledgermq${extra:+ with what its ${extra}s need} into $venv ..."
    pip_install "$extra" "$compiled" || fail "$EXIT_NO_PYTHON" "pip could not install the project: see above." \
        "Behind a proxy or with an index of your own, pip's settings apply:" \
        "HTTPS_PROXY, PIP_INDEX_URL, PIP_CERT, or pip.conf."
    printf '%s\n%s\n%s\n' "$(fingerprint)" "$extra" "$compiled" >"$stamp"
)

# ensure_venv [EXTRA]: afterwards "$python" has the project. Quick when nothing changed.
ensure_venv() {
    is_installed "${1:-}" || install_locked "${1:-}" || exit
}
