#!/usr/bin/env bash
# A normal client beside slow attackers: its latency, and what the server takes, without and with each of
# slowhttptest's four modes. Prints the rows of the README's table "Slow clients".
#
#     bench/slow-clients.sh [connections] [seconds]       4000 connections, 20 seconds each where not said
#
# Needs slowhttptest (Debian: slowhttptest) and the binaries of `cargo build --profile max --workspace`, or others in
# the folder BIN. Everything stays on loopback. The server runs with one worker and its defaults.
set -euo pipefail
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.."

connections=${1:-4000}
seconds=${2:-20}
bin=${BIN:-target/max}
port=${PORT:-8088}
url=http://127.0.0.1:$port
ulimit -n "$(ulimit -H -n)"

folder=$(mktemp -d)
server=
attack=
watch=
# The attack is a group of its own: the loop and the program that runs in it.
end_attack() {
    [ -z "$attack" ] || kill -- -"$attack" 2>/dev/null || true
    [ -z "$watch" ] || kill "$watch" 2>/dev/null || true
    attack= watch=
}
trap 'end_attack; kill $server 2>/dev/null || true; rm -rf "$folder"' EXIT

ticks() { awk '{ print $14 + $15 }' "/proc/$server/stat"; }
resident_kb() { awk '/^VmRSS/ { print $2 }' "/proc/$server/status"; }

# name, then the arguments of slowhttptest; none: no attack.
row() {
    local name=$1
    shift
    PORT=$port WORKERS=1 PIN=never DATA_DIR=$folder/data "$bin/roadtrip-api" >"$folder/log" 2>&1 &
    server=$!
    until curl -sf "$url/health" >/dev/null; do sleep 0.1; done
    curl -sf "$url/api/v1/stories/generate" -H 'Content-Type: application/json' \
        -d '{"location":"San Francisco","style":"adventure"}' >/dev/null
    : >"$folder/open"
    if [ $# -gt 0 ]; then
        # Again and again: it ends by itself once the server has cut all of them off.
        setsid bash -c 'while :; do slowhttptest "$@" >/dev/null 2>&1; done' attack \
            "$@" -c "$connections" -r 1000 -i 5 -p 5 -l $((seconds + 10)) &
        attack=$!
        # Until most of them are connected.
        sleep 4
    fi
    (while sleep 1; do
        echo "$(curl -s "$url/metrics" | awk '/^http_connections_open/ { print $2 }') $(resident_kb)" >>"$folder/open"
    done) &
    watch=$!
    local begun
    begun=$(ticks)
    "$bin/roadtrip-bench" load --url "$url/api/v1/stories/generate" --method POST \
        --body '{"location":"San Francisco","style":"adventure"}' \
        --connections 8 --rate 1000 --duration "$seconds" --json >"$folder/report" || true
    local cpu resident open
    cpu=$(awk -v t="$(($(ticks) - begun))" -v hz="$(getconf CLK_TCK)" -v s="$seconds" 'BEGIN { printf "%.1f", 100 * t / hz / s }')
    open=$(awk '$1 > most { most = $1 } END { print most + 0 }' "$folder/open")
    resident=$(awk '$2 > most { most = $2 } END { print most + 0 }' "$folder/open")
    end_attack
    ROW=$name CPU=$cpu RESIDENT=$resident OPEN=$open python3 - "$folder/report" <<'PY'
import json, os, sys
report = json.load(open(sys.argv[1]))
latency = report["latency_us"]
e = os.environ
ms = lambda name: f'{latency[name] / 1e3:.2f}'
print(f'| {e["ROW"]} | {e["OPEN"]} | {ms("p50")} ms | {ms("p99")} ms | {report["requests"]}, {report["error_count"]} | '
      f'{e["CPU"]} % | {int(e["RESIDENT"]) / 1024:.1f} MB |')
PY
    kill "$server"
    wait "$server" || true
    server=
}

echo '| attack | connections, most | median | p99 | answers, failures | CPU of the server | resident, most |'
echo '| --- | --- | --- | --- | --- | --- | --- |'
row 'none'
row 'slow headers (`-H`)' -H -u "$url/health"
row 'slow bodies (`-B`)' -B -t POST -s 60000 -x 20 -u "$url/api/v1/stories/generate"
row 'ranges (`-R`)' -R -u "$url/docs"
row 'slow reads (`-X`)' -X -k 5 -w 10 -y 20 -n 5 -z 32 -u "$url/openapi.json"
