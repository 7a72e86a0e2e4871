#!/usr/bin/env bash
# Builds the tree of the image as the Dockerfile does, and runs the server in it as a pod would: as user 65532, from a
# read-only root, without one capability. Needs root (chroot and mounts, in a mount namespace of its own). tests/deploy/run
# calls it.
set -euo pipefail
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../.."

fail() { echo "FAILED  image: $*"; exit 1; }
say() { echo "ok      image: $*"; }

deploy/image/build tools
# A folder of its own: the flags differ from those of every other build.
export CARGO_TARGET_DIR=target/image
deploy/image/build binary
tree=$(mktemp -d)
chmod 0755 "$tree"
log=$(mktemp)
server=
pid=
end() {
    [ -z "$pid" ] || kill "$pid" 2>/dev/null || true
    rm -rf "$tree" "$log"
}
trap end EXIT
deploy/image/build tree "$tree"

bytes=$(du -sb "$tree" | cut -f1)
[ "$bytes" -lt 25000000 ] || fail "$bytes bytes; the limit is 25 MB"
say "$bytes bytes of at most 25,000,000"
if ldd "$tree/roadtrip-api" >/dev/null 2>&1; then fail "the binary is not static"; fi
if grep -qaF -e "$PWD" -e "${CARGO_HOME:-$HOME/.cargo}/" "$tree/roadtrip-api"; then fail "a path of the build is in the binary"; fi
say "static, and no path of the build in it"

target/deploy/bin/python tests/deploy/sbom.py "$tree"

if [ "$(id -u)" -ne 0 ]; then
    fail "running it needs root (chroot)"
fi
# What kubelet and the runtime mount; the root itself is read-only.
mkdir -p "$tree/proc" "$tree/dev"
touch "$tree/dev/null" "$tree/etc/resolv.conf" "$tree/etc/hosts"
cat >"$tree.sh" <<'INNER'
set -eu
tree=$1
mount --bind "$tree" "$tree"
mount -t proc proc "$tree/proc"
for file in /dev/null /etc/resolv.conf /etc/hosts; do mount --bind "$file" "$tree$file"; done
mount -o remount,bind,ro "$tree"
shift
exec python3 -c '
import ctypes, os, sys
prctl = ctypes.CDLL(None).prctl
os.chroot(sys.argv[1])
os.chdir("/")
for capability in range(64):
    prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP; those that this kernel does not know fail
prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
os.setgroups([])
os.setgid(65532)
os.setuid(65532)
os.execve(sys.argv[2], sys.argv[2:], dict(os.environ))
' "$tree" "$@"
INNER
run() { env -i "${settings[@]}" PATH="$PATH" unshare --mount bash "$tree.sh" "$tree" "$@"; }
trap 'end; rm -f "$tree.sh"' EXIT

settings=(PORT=0 LOG_FORMAT=json ENVIRONMENT=test "DATABASE_URL=postgresql://nobody:nothing@localhost:1/none")
run /roadtrip-api serve >"$log" 2>&1 &
server=$!
port=
for _ in $(seq 200); do
    port=$(sed -n 's/.*"message":"ready".*"port":\([0-9]*\).*/\1/p; s/.*"port":\([0-9]*\).*"message":"ready".*/\1/p' "$log" | head -1)
    [ -n "$port" ] && break
    sleep 0.1
done
[ -n "$port" ] || fail "it did not get ready: $(cat "$log")"
pid=$(sed -n 's/.*"pid":\([0-9]*\).*/\1/p' "$log" | head -1)
state=/proc/$pid/status
[ "$(awk '/^Uid/ {print $2}' "$state")" = 65532 ] || fail "it runs as another user"
[ "$(awk '/^CapEff/ {print $2}' "$state")" = 0000000000000000 ] || fail "it has capabilities"
[ "$(awk '/^CapBnd/ {print $2}' "$state")" = 0000000000000000 ] || fail "it could get capabilities"
[ "$(curl -s -o /dev/null -w '%{http_code}' "http://localhost:$port/health/v2/live")" = 200 ] || fail "it is not alive"
# A name was looked up by the resolver in the static binary, or the reason would be another.
curl -s "http://localhost:$port/health/v2/ready" | grep -q 'localhost:1 (127.0.0.1:1) refused' \
    || fail "the static resolver did not find localhost: $(curl -s "http://localhost:$port/health/v2/ready")"
say "serves as user 65532 without capabilities from a read-only root, and finds names"

# Under the profile of the io-uring overlay, where a call that it does not allow ends the process: a story told and kept on
# disk, on both drivers.
for driver in uring epoll; do
    data=$(mktemp -d)
    settings=(PORT=0 LOG_FORMAT=json "IO_DRIVER=$driver" "DATA_DIR=$data")
    env -i "${settings[@]}" python3 tests/deploy/under_profile.py deploy/seccomp/roadtrip-io-uring.json \
        "$tree/roadtrip-api" serve >"$log.$driver" 2>&1 &
    caged=$!
    for _ in $(seq 200); do
        at=$(sed -n 's/.*"message":"ready".*"port":\([0-9]*\).*/\1/p; s/.*"port":\([0-9]*\).*"message":"ready".*/\1/p' "$log.$driver" | head -1)
        [ -n "$at" ] && break
        sleep 0.1
    done
    [ -n "$at" ] || fail "under the seccomp profile, $driver: it did not get ready: $(cat "$log.$driver")"
    for place in Rome Oslo Lima; do
        curl -sf --compressed -o /dev/null -H 'content-type: application/json' -d "{\"location\":\"$place\"}" \
            "http://localhost:$at/api/v1/stories/generate" || fail "under the seccomp profile, $driver: no story"
    done
    curl -sf "http://localhost:$at/health/v2/status" | grep -q "\"$driver\"" || fail "it does not run on $driver"
    kill -HUP "$caged"
    sleep 0.3
    kill -TERM "$caged"
    status=0
    wait "$caged" || status=$?
    [ "$status" -eq 0 ] || fail "under the seccomp profile, $driver: it ended with $status"
    rm -rf "$data" "$log.$driver"
    say "serves on $driver under the seccomp profile"
done

# Its health check and its kill, as the image has them.
settings=("PORT=$port" "DATABASE_URL=postgresql://nobody:nothing@localhost:1/none")
run /roadtrip-api healthcheck --path /health/v2/live || fail "the health check does not find it"
if run /roadtrip-api healthcheck 2>/dev/null; then fail "the health check says ready without a database"; fi
# In the same process namespace here, so the server's id stands for the guide's 1.
settings=("PORT=$port")
run /bin/kill -HUP "$pid" || fail "kill -HUP"
sleep 0.5
curl -sf -o /dev/null "http://localhost:$port/health/v2/live" || fail "it did not survive kill -HUP"
run /bin/kill -TERM "$pid" || fail "kill -TERM"
status=0
wait "$server" || status=$?
pid=
[ "$status" -eq 0 ] || fail "it ended with $status"
say "health check, kill -HUP and kill -TERM by the binary's own kill"

# What a hot request costs, counted on this very binary.
(unset CARGO_TARGET_DIR && RATCHET_TARGET_DIR=target/image bench/ratchet) || fail "bench/ratchet: see above"
say "no hot request takes more instructions than bench/ratchet.toml allows"
