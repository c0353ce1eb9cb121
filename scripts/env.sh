# Sourced by the other scripts: makes .venv from the locked requirements, or finds it ready.
# Why a lock and --no-deps: libp2p pins a package that needs a compiler; the lock overrides it
# (see [tool.uv] in pyproject.toml). It needs python3 >= 3.11 with pip; no root, no compiler, no venv module's pip.
# Usage, in bash: . scripts/env.sh [dev]      `dev` adds what the linters and tests need.
# It leaves the working directory as it is, and a shell that sources it alive if something fails.
# To renew the locks: scripts/lock
mutirao_setup() (
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
die() { printf 'error: %s\n' "$1" >&2; exit 1; }

find_python() {
  local candidate
  PATH=${PATH//"$PWD/.venv/bin:"/}  # Not the one that we made: it has no pip.
  for candidate in ${PYTHON:-} python3.12 python3.11 python3.13 python3; do
    "$candidate" -c 'import sys, pip; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' \
      2>/dev/null && { "$candidate" -c 'import sys; print(sys.executable)'; return; }
  done
  die 'Python 3.11 to 3.13 with pip is needed (Debian: apt install python3 python3-pip)'
}

pip_install() {  # Errors alone are worth lines: some set-ups of pip warn a hundred times.
  "$PY" -m pip --python .venv/bin/python install -qq --disable-pip-version-check --no-warn-script-location \
    --root-user-action=ignore --no-deps "$@"
}

install_lock() {  # $1: lock file. A stamp of its digest makes the second run a matter of milliseconds.
  local stamp digest
  stamp=.venv/$(basename "$1").stamp
  digest=$(sha256sum "$1" pyproject.toml | sha256sum)
  [ "$(cat "$stamp" 2>/dev/null)" = "$digest" ] && return
  printf 'installing the packages of %s into .venv: about a minute, once ...\n' "$1" >&2
  pip_install --require-hashes -r "$1" || die "could not install the packages of $1"
  printf '%s' "$digest" >"$stamp"
}

PY=$(find_python) || exit 1
if [ ! -x .venv/bin/python ] || ! .venv/bin/python -c '' 2>/dev/null; then
  rm -rf .venv
  "$PY" -m venv --without-pip .venv || die 'cannot make a virtual environment in .venv'
fi
install_lock scripts/requirements.lock
if [ ! -x .venv/bin/mutirao ]; then
  pip_install -e . || die 'could not install mutirao itself'
fi
if [ "${1:-}" = dev ]; then
  install_lock scripts/requirements-dev.lock
  rm -rf .venv/lib/python*/site-packages/trio-stubs  # They hide the types that trio itself has.
fi
)

if mutirao_setup "$@"; then
  mutirao_venv=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)/.venv/bin
  case ":$PATH:" in *":$mutirao_venv:"*) ;; *) PATH=$mutirao_venv:$PATH ;; esac
  export PATH
  unset mutirao_venv
else
  false
fi
