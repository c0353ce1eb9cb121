# Sourced by scripts/test: the real programs that some tests talk to, one line each at the end.
# With CI=true and as root each is installed from the distribution's packages, and started if nothing
# answers yet. Elsewhere nothing is installed or started. Why a part is not there is told to the tests
# in MISSING_<NAME>; they skip with that reason. What was started is stopped when the shell exits.
# To add a part: a line at the end, and a function that starts it if it has to run.

INSTALL_SECONDS=600
START_SECONDS=60
STOP_SECONDS=30

real_part() {  # $1: name, $2: program, $3: its packages, $4: what starts it, if it has to run.
  local name=$1 program=$2 packages=$3 start=${4:-:} why=
  [ "${CI:-}" = true ] && [ "$(id -u)" = 0 ] || return 0
  if install_packages "$program" "$packages" && "$start"; then
    printf 'ready for the tests: %s\n' "$name" >&2
  else
    printf 'warning: no %s for the tests: %s\n' "$name" "$why" >&2
    export "MISSING_${name^^}=$why"
  fi
}

install_packages() {  # The machine's own policy-rc.d says whether a package may start its service.
  command -v "$1" >/dev/null && return
  local log=$parts/apt.log
  # shellcheck disable=SC2086  # Packages are words.
  apt_get install $2 >"$log" 2>&1 && return
  { apt_get update && apt_get install $2; } >"$log" 2>&1 && return
  why="apt-get could not install $2: $(grep '^E: ' "$log" | tail -n 1)"
  return 1
}

apt_get() {
  DEBIAN_FRONTEND=noninteractive timeout --kill-after=10 "$INSTALL_SECONDS" \
    apt-get --yes --no-install-recommends -o DPkg::Lock::Timeout=120 "$@" </dev/null
}

start_docker() {  # An engine that answers already is used as it is.
  docker_answers && return
  local folder=$parts/docker
  mkdir "$folder"
  # Not the machine's own configuration. gVisor applies the filter of a job only if it is told to.
  local runtimes=
  command -v runsc >/dev/null && runtimes='"runtimes": {"runsc": {"path": "'$(command -v runsc)'",
    "runtimeArgs": ["--network=none", "--platform=ptrace", "--oci-seccomp"]}}'
  echo "{$runtimes}" >"$folder/daemon.json"
  export DOCKER_HOST=unix://$folder/docker.sock
  # With namespaces of its own for networks and in containerd: it leaves the machine's bridges, its
  # firewall and another engine's containers alone.
  setpriv --pdeathsig TERM unshare --net dockerd --config-file "$folder/daemon.json" \
    --host "$DOCKER_HOST" --data-root "$folder/data" --exec-root "$folder/exec" \
    --pidfile "$folder/pid" --bridge none --iptables=false --ip6tables=false \
    --containerd-namespace mutirao-tests --containerd-plugins-namespace mutirao-tests-plugins \
    </dev/null >"$folder/log" 2>&1 &
  started+=("$!")
  for ((tenth = 0; tenth < START_SECONDS * 10; tenth++)); do
    docker_answers && return
    kill -0 "$!" 2>/dev/null || break
    sleep 0.1
  done
  why="dockerd does not answer: $(tail -n 1 "$folder/log")"
  return 1
}

docker_answers() {
  python -c 'import docker; docker.from_env(timeout=5).ping()' 2>/dev/null
}

stop_parts() {
  set +e  # Whatever fails, the rest is done.
  local pid place
  for pid in "${started[@]}"; do
    kill -TERM "$pid" 2>/dev/null
    timeout "$STOP_SECONDS" tail --pid="$pid" -f /dev/null || kill -KILL "$pid"
  done
  while read -r _ place _; do
    case $place in "$parts"/*) umount -l "$place" ;; esac
  done </proc/self/mounts
  rm -rf --one-file-system "$parts"
}

started=()
parts=$(mktemp -d /tmp/mutirao-parts-XXXXXX)  # Short, since a socket's path has 107 bytes at most.
chmod 711 "$parts"  # An ordinary user may reach the sockets in it.
trap stop_parts EXIT

real_part gvisor runsc runsc  # A runtime of the engine, which starts after it is installed.
real_part docker dockerd docker.io start_docker
real_part registry docker-registry docker-registry  # The tests run their own on a free port.
real_part torch torchrun python3-torch  # For Debian's own Python; an image of the tests gets its files.
