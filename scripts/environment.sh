# Sets up the project's own environment; sourced by ./run and ./test, with $project set.
# Nothing outside the project's directory is changed.

# Compiled files are kept in the project; otherwise each of many processes would compile again.
unset PYTHONDONTWRITEBYTECODE

set -E
trap 'printf "queuescope: the set-up failed (%s, line %s)\n" "${BASH_SOURCE[0]}" "$LINENO" >&2' ERR

say() { printf '%s\n' "$*"; }
fail() {
  printf 'queuescope: %s\n' "$*" >&2
  exit 2
}

find_python() {
  local candidate
  for candidate in python3 python3.13 python3.14 python3.12 python3.11 python; do
    python=$("$candidate" -c 'import sys
if sys.version_info >= (3, 11): print(sys.executable)' 2>/dev/null </dev/null) || continue
    [ -n "$python" ] && return
  done
  fail "Python 3.11 or newer is needed, and none of python3, python3.11 … python3.14 is that;" \
    "install it (Debian 12, Ubuntu 24.04: apt-get install python3; macOS: brew install python)."
}

find_uv() {
  uv=$(command -v uv || true)
  # An old version does not know the options of the lock file.
  if [ -n "$uv" ] && "$uv" sync --help 2>/dev/null | grep -q -- --no-default-groups; then return; fi
  uv=$project/.uv/bin/uv
  if "$uv" --version >/dev/null 2>&1; then return; fi
  say "Fetching uv from PyPI into .uv/"
  rm -rf "$project/.uv"
  mkdir -p "$project/.uv"
  find_pip
  PYTHONPATH=$pip_path PIP_ROOT_USER_ACTION=ignore "$python" -m pip install --quiet --disable-pip-version-check \
    --no-warn-script-location --target "$project/.uv" 'uv>=0.9,<1' </dev/null ||
    fail "uv could not be fetched from PyPI; check the network, or install uv yourself."
  "$uv" --version >/dev/null 2>&1 || fail "the fetched uv does not run; install uv yourself."
}

# Sets pip_path: empty if Python has pip, otherwise a wheel that contains it.
find_pip() {
  pip_path=
  if "$python" -m pip --version >/dev/null 2>&1; then return; fi
  pip_path=$(pip_wheel "$("$python" -c 'import sysconfig
print(sysconfig.get_path("stdlib"))')/ensurepip" /usr/share/python-wheels)
  if [ -n "$pip_path" ]; then return; fi
  if command -v apt-get >/dev/null && command -v dpkg >/dev/null; then
    say "This Python has no pip; unpacking the distribution's into .uv/"
    if (cd "$project/.uv" && fetch_package python3-pip-whl); then
      pip_path=$(pip_wheel "$project/.uv/package")
    fi
  fi
  [ -n "$pip_path" ] ||
    fail "this Python has neither pip nor venv; install them (apt-get install python3-venv) or uv."
}

pip_wheel() { { find "$@" -name 'pip-*.whl' 2>/dev/null || true; } | sort | tail -n 1; }

# Unpacks a package of the distribution into ./package, with its own package lists if necessary.
fetch_package() {
  local own=(-o "Dir::State::lists=$PWD/lists" -o "Dir::Cache=$PWD/cache" -o APT::Sandbox::User=root)
  if ! apt-get -q download "$1" >apt.log 2>&1; then
    mkdir -p lists/partial cache/archives/partial
    apt-get "${own[@]}" -q update >>apt.log 2>&1 &&
      apt-get "${own[@]}" -q download "$1" >>apt.log 2>&1 || return 1
  fi
  dpkg -x ./"$1"_*.deb package && rm -rf lists cache ./"$1"_*.deb
}

# Updates .venv from uv.lock. $1 names the set (for the stamp), the rest are options for uv.
sync_environment() {
  local set=$1 stamp wanted
  shift
  stamp=$project/.venv/.queuescope-$set
  wanted=$(cd "$project" && cat uv.lock pyproject.toml hatch_build.py \
    src/queuescope/prometheus/points.c | cksum)
  if [ "$(cat "$stamp" 2>/dev/null)" = "$wanted $project" ] && "$project/.venv/bin/python" -c ''; then
    return
  fi
  find_python
  find_uv
  say "Setting up .venv from uv.lock"
  rm -f "$project"/.venv/.queuescope-*
  # The second try is for machines that reach PyPI through a proxy with its own certificate.
  uv_sync "$@" 2>/dev/null || UV_SYSTEM_CERTS=true uv_sync "$@" ||
    fail "the environment could not be set up; the lines above say why."
  printf '%s' "$wanted $project" >"$stamp"
}

# Inexact: packages that ./test added must not disappear while a platform runs.
uv_sync() {
  env -u VIRTUAL_ENV UV_PYTHON_DOWNLOADS=never UV_PROJECT_ENVIRONMENT=.venv "$uv" sync --quiet \
    --project "$project" --frozen --inexact --python "$python" "$@" </dev/null
}
