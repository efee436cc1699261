#!/bin/sh
# Installs what the tests need and runs them. `./test.sh help` says which parts there are.

root=$(CDPATH='' cd -- "$(dirname "$0")" && pwd) || exit 1
. "$root/bin/python-env.sh"

QUICK="not slow and not chaos and not interop and not compiled"

usage() {
    cat <<END
usage: test.sh [PART]

  all      everything (the default): check, 2,000 seeds of the group simulation, compiled, a smoke
           of the benchmark, then the tests with real processes
  check    lint, types, import rules, quick tests; under 3 minutes
  drill    kill-the-leader drills with real processes
  interop  the official Java clients against us; needs a JDK and Maven
  compiled the compiled twins: built in a copy, and the tests of the log and the broker
  sim      the group simulation: 2,000 fixed seeds and 20 fresh ones; SEED=0x5f1c: that one
  sim-long the group simulation: 30,000 seeds, report in build/sim-long.json
  mutants  wrong changes of the source, one at a time: a test must notice each; --help
  mutation every small change of the Raft core that mutmut knows; --help
  bench    speed beside the Java original, NATS and others; docs/performance.md; --help
  format   bring the sources into the house's form

With CI=true nothing is skipped: a missing JDK, Maven, Go or C compiler is installed when we are
root, and a test that would skip fails. PYTHON and LEDGERMQ_VENV: see ./fast-try.sh help.
END
}

# part TITLE COMMAND...: announce it, run it, end here when it fails.
part() {
    printf '\n== %s\n' "$1"
    shift
    "$@" || exit
}

# Not the commands in the environment's bin/: these name its old folder after the checkout moved.
tool() {
    "$python" -P -m "$@"
}

import_rules() {
    "$python" -P -c 'from importlinter.cli import lint_imports_command as main; main()'
}

# Programs below tests/; they need the checkout on the import path, so no -P.
ours() {
    "$python" -m "$@"
}

# The programs; -a looks into what they source.
shell_check() {
    "$venv/bin/shellcheck" -a fast-try.sh test.sh .ci/run bin/dledger/fast-try.sh bin/mq* \
        bin/runserver.sh bin/runbroker.sh bin/tools.sh bin/namesrv-ctl.sh bin/broker-ctl.sh
}

check() {
    part "Shell scripts" shell_check
    part "Lint" tool ruff check .
    part "Form" tool ruff format --check .
    part "Types" tool mypy
    part "Types of the scripts" tool mypy --strict bin/cluster.py bin/ports.py
    part "Import rules" import_rules
    part "Quick tests" tool pytest -q -n 2 --dist loadfile --timeout 60 -m "$QUICK"
}

# The Java clients of tests/interop need these; a continuous integration run must not skip them.
need_java() {
    [ "${CI:-}" = true ] || return 0
    command -v javac >/dev/null 2>&1 && command -v mvn >/dev/null 2>&1 && return
    [ "$(id -u)" = 0 ] || fail "$EXIT_FAILED" "No JDK or no Maven, and CI=true allows no skip." \
        "Install them: apt-get install default-jdk-headless maven"
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq default-jdk-headless maven >/dev/null
}

# The load generator of bench/ needs it.
has_go() {
    for go in go /usr/local/go/bin/go; do
        if "$go" version 2>/dev/null | grep -Eq 'go(1\.(2[2-9]|[3-9][0-9])|[2-9])'; then
            # What bench/tools.py finds.
            [ "$go" = go ] || export PATH="/usr/local/go/bin:$PATH"
            return
        fi
    done
    return 1
}

need_go() {
    [ "${CI:-}" = true ] || return 0
    has_go && return
    [ "$(id -u)" = 0 ] || fail "$EXIT_FAILED" "No Go 1.22 or newer, and CI=true allows no skip." \
        "Install it: apt-get install golang-go, or the archive from https://go.dev/dl/"
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq golang-go >/dev/null
    has_go || fail "$EXIT_FAILED" "The Go of this system is older than 1.22, and CI=true allows no skip." \
        "Install the archive from https://go.dev/dl/ in /usr/local/go."
}

# Has it become slower? Without Go nobody knows; only CI insists.
smoke() {
    part "Go for the load generator" need_go
    if has_go; then
        part "Benchmark smoke" ours bench smoke
    else
        warn "Benchmark smoke: skipped, there is no Go 1.22."
    fi
}

has_compiler() {
    printf '#include <Python.h>\n#include <zlib.h>\n' | cc -E -x c - -o /dev/null \
        -I "$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')" 2>/dev/null
}

need_compiler() {
    [ "${CI:-}" = true ] || return 0
    has_compiler && return
    [ "$(id -u)" = 0 ] || fail "$EXIT_FAILED" "No C compiler with the headers of Python and zlib," \
        "and CI=true allows no skip. Install them: apt-get install gcc python3-dev zlib1g-dev"
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq gcc libc6-dev python3-dev zlib1g-dev >/dev/null
}

# In a copy: the checkout stays in pure Python.
compiled() {
    if ! has_compiler && [ "${CI:-}" != true ]; then
        warn "Compiled twins: skipped, there is no C compiler with the headers of Python and zlib."
        return
    fi
    case $python in
    /*) ;;
    *) python=$root/$python ;;
    esac
    LEDGERMQ_PURE=0
    copy=$(mktemp -d) || exit
    trap 'rm -rf "$copy"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    # shellcheck disable=SC2086  # a list of folder names
    cp -R ledgermq $packages tests conf docs examples bin bench ./*.toml ./*.md hatch_build.py "$copy"
    cd "$copy" || exit
    "$python" hatch_build.py || fail "$EXIT_FAILED" "The compiled parts could not be built: see above."
    part "Twins, and those who use them" tool pytest -q -n 2 --dist loadfile --timeout 60 \
        -m "not slow and not chaos and not interop" \
        tests/unit/compiled tests/unit/remoting tests/unit/dledger tests/unit/broker \
        tests/golden tests/property
    part "Group simulation with twins" ours tests.sim.group --jobs 2 --seeds 200
    cd "$root" || exit
    LEDGERMQ_PURE=1
}

# Whole groups of real replicas in a simulated world; docs/testing.md, "Group simulation".
sim() {
    if [ -n "${SEED:-}" ]; then
        ours tests.sim.group --seed "$SEED"
    else
        ours tests.sim.group --jobs 2 "$@"
    fi
}

format() {
    tool ruff check --fix .
    tool ruff format .
}

case ${1:-all} in
all | check | drill | interop | format | compiled | sim | sim-long | mutants | mutation | bench) ;;
help | -h | --help)
    usage
    exit
    ;;
*)
    usage >&2
    exit 2
    ;;
esac

cd "$root" || exit 1
ensure_venv test
# Twins that somebody built beside their sources are not what these tests are about.
export LEDGERMQ_PURE=1
case ${1:-all} in
all)
    check
    part "Group simulation" sim --seeds 2000
    part "C compiler for the compiled twins" need_compiler
    part "Compiled twins" compiled
    smoke
    part "Java for the interop tests" need_java
    part "Tests with real processes" tool pytest -q --timeout 300 -m "slow or chaos or interop"
    ;;
check) check ;;
drill) part "Drills" tool pytest -q -s --timeout 300 -m "chaos" ;;
interop)
    part "Java for the interop tests" need_java
    part "Interop tests" tool pytest -q --timeout 300 -m "interop"
    ;;
format) format ;;
compiled)
    part "C compiler for the compiled twins" need_compiler
    part "Compiled twins" compiled
    ;;
sim) sim --seeds 2000 --fresh 20 ;;
sim-long) mkdir -p build && sim --seeds 30000 --json build/sim-long.json ;;
mutants)
    shift
    ours tests.mutants "$@"
    ;;
mutation)
    shift
    ours tests.mutants.mutation "$@"
    ;;
bench)
    shift
    ours bench "$@"
    ;;
esac
