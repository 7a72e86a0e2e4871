#!/usr/bin/env bash
# The load generator against others, on the same server: do they see the same rate and the same latencies?
#
#     bench/generators.sh [SECONDS] [ROUNDS]
#
# Starts target/max/roadtrip-api (or $SERVER) with one worker on CPU 0 and each generator on CPU 1, in turn, so that what the
# machine does besides falls on all of them; prints medians over the rounds. Generators that are not installed are left out: wrk and
# h2load (Debian: wrk, nghttp2-client), and oha, which is in no Debian 12 and is looked for in target/tools/bin too:
#
#     cargo install oha --locked --root target/tools --target-dir target/tools/build
#
# wrk2's method (constant arrivals, latency from when a request was due) is done by twenty lines of Python, slow and by
# another hand, while the server is stopped for 300 ms.
#
# Needs two CPUs, bash, python3. Load goes to 127.0.0.1 only; ends what it started.
set -euo pipefail
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.."

seconds=${1:-4} rounds=${2:-3}
server=${SERVER:-target/max/roadtrip-api}
bench=${BENCH:-target/max/roadtrip-bench}
scratch=$(mktemp -d)
port=${PORT:-18080}
base=http://127.0.0.1:$port
PATH=$PWD/target/tools/bin:$PATH

env -i PATH="$PATH" HOST=127.0.0.1 PORT="$port" WORKERS=1 PIN=never LOG_LEVEL=warning DATA_DIR="$scratch" \
    taskset -c 0 "$server" serve >/dev/null 2>"$scratch/server.log" &
pid=$!
trap 'kill "$pid" 2>/dev/null; wait "$pid" 2>/dev/null; rm -rf "$scratch"' EXIT
for _ in $(seq 100); do
    curl -s -o /dev/null "$base/health" && break
    sleep 0.1
done

# CPU time of the server in ns, exact.
cpu_ns() { cat /proc/"$pid"/task/*/schedstat | awk '{ s += $1 } END { printf "%.0f", s }'; }

# measure NAME REQUESTS-PER-SECOND-FILTER COMMAND...: appends "name rate cpu_us".
measure() {
    local name=$1 filter=$2 before after out
    shift 2
    before=$(cpu_ns)
    # Its exit code is not looked at: wrk has none, and ours says whether the generator was the limit.
    out=$(taskset -c 1 "$@" 2>/dev/null || true)
    after=$(cpu_ns)
    printf '%s\n' "$out" | name=$name python3 -c "
import json, os, re, sys
text = sys.stdin.read()
rate, p50, p99 = $filter
seconds = $seconds
print(os.environ['name'], f'{rate:.0f}', f'{($after - $before) / 1000 / (rate * seconds):.2f}', f'{p50:.0f}', f'{p99:.0f}', sep='|')
" >>"$scratch/rows" || printf '%s: cannot read what it says\n' "$name" >&2
}

# How each says its rate, and its median and 99th percentile in us.
ours='(lambda d: (d["requests_per_second"], d["latency_us"]["p50"], d["latency_us"]["p99"]))(json.loads(text))'
us='lambda t: float(re.match(r"[0-9.]+", t)[0]) * {"us": 1, "ms": 1e3, "s": 1e6}[re.sub(r"[0-9.]+", "", t)]'
wrk="(lambda u: (float(re.search(r'Requests/sec: +([0-9.]+)', text)[1]), u(re.search(r'50% +(\S+)', text)[1]), u(re.search(r'99% +(\S+)', text)[1])))($us)"
# h2load 1.52 has no percentiles: mean, and nothing.
h2load="(lambda u: (float(re.search(r'finished in .*?, ([0-9.]+) req/s', text)[1]), u(re.search(r'time for request: +\S+ +\S+ +(\S+)', text)[1]), float('nan')))($us)"
oha='(lambda d: (d["summary"]["requestsPerSec"], d["latencyPercentiles"]["p50"] * 1e6, d["latencyPercentiles"]["p99"] * 1e6))(json.loads(text))'

for _ in $(seq "$rounds"); do
    measure "h1 closed, roadtrip-bench" "$ours" "$bench" load -q --json --url "$base/health" -c 64 -d "$seconds"
    command -v wrk >/dev/null && measure "h1 closed, wrk" "$wrk" wrk -t1 -c64 -d"${seconds}s" --latency "$base/health"
    command -v h2load >/dev/null && measure "h1 closed, h2load" "$h2load" h2load --h1 -t1 -c64 -m1 -D "$seconds" "$base/health"
    command -v oha >/dev/null && measure "h1 closed, oha" "$oha" oha --no-tui --output-format json -c 64 -z "${seconds}s" "$base/health"
    measure "h2 closed, 8 x 8 streams, roadtrip-bench" "$ours" "$bench" load -q --json --url "$base/health" --http2 --streams 8 -c 8 -d "$seconds"
    command -v h2load >/dev/null && measure "h2 closed, 8 x 8 streams, h2load" "$h2load" h2load -t1 -c8 -m8 -D "$seconds" "$base/health"
    command -v oha >/dev/null && measure "h2 closed, 8 x 8 streams, oha" "$oha" oha --no-tui --output-format json --http2 -c 8 -p 8 -z "${seconds}s" "$base/health"
    measure "open, 2000/s, roadtrip-bench" "$ours" "$bench" load -q --json --url "$base/health" -c 16 -r 2000 -d "$seconds"
    command -v h2load >/dev/null && measure "open, 2000/s, h2load" "$h2load" h2load --h1 -t1 -c16 -m1 --rps 125 -D "$seconds" "$base/health"
    command -v oha >/dev/null && measure "open, 2000/s, oha" "$oha" oha --no-tui --output-format json -c 16 -q 2000 --latency-correction -z "${seconds}s" "$base/health"
done

cat >"$scratch/wrk2.py" <<'PY'
# wrk2's method: connection k of n is due at k/rate, (k+n)/rate and so on; latency counts from there.
import http.client, sys, threading, time
port, rate, seconds, n = int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]), 8
start, latencies = time.monotonic() + 0.2, []
def user(k):
    connection = http.client.HTTPConnection("127.0.0.1", port)
    for i in range(k, int(rate * seconds), n):
        due = start + i / rate
        time.sleep(max(0, due - time.monotonic()))
        connection.request("GET", "/health")
        connection.getresponse().read()
        latencies.append(time.monotonic() - due)
users = [threading.Thread(target=user, args=(k,)) for k in range(n)]
[u.start() for u in users]
[u.join() for u in users]
latencies.sort()
at = lambda q: latencies[min(len(latencies) - 1, int(q * len(latencies)))] * 1e6
print(len(latencies) / seconds, at(0.5), at(0.99))
PY
stall() {
    sleep 2
    kill -STOP "$pid"
    sleep 0.3
    kill -CONT "$pid"
}
stalled=${STALLED_SECONDS:-6}
seconds=$stalled
for _ in $(seq "$rounds"); do
    stall &
    measure "open, 400/s, stopped 300 ms, roadtrip-bench" "$ours" "$bench" load -q --json --url "$base/health" -c 8 -r 400 -d "$stalled"
    wait $!
    stall &
    measure "open, 400/s, stopped 300 ms, wrk2's method" 'map(float, text.split())' python3 "$scratch/wrk2.py" "$port" 400 "$stalled"
    wait $!
    command -v oha >/dev/null && {
        stall &
        measure "open, 400/s, stopped 300 ms, oha" "$oha" oha --no-tui --output-format json -c 8 -q 400 --latency-correction -z "${stalled}s" "$base/health"
        wait $!
    }
done

python3 - "$scratch/rows" <<'PY'
import collections, statistics, sys
rows = collections.OrderedDict()
for line in open(sys.argv[1]):
    name, *values = line.strip().split("|")
    rows.setdefault(name, []).append([float(v) for v in values])
print("| load, generator | requests/s | server CPU us/request | p50 us | p99 us |\n| --- | ---: | ---: | ---: | ---: |")
for name, runs in rows.items():
    rate, cpu, p50, p99 = (statistics.median(c) for c in zip(*runs))
    low, high = min(r[0] for r in runs), max(r[0] for r in runs)
    tail = "-" if p99 != p99 else f"{p99:.0f}"
    print(f"| {name} | {rate:.0f} ({low:.0f} to {high:.0f}) | {cpu:.2f} | {p50:.0f} | {tail} |")
PY
