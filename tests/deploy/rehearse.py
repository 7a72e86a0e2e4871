"""Rehearses a rolling update on this machine: processes as pods, HAProxy as the Service, all on loopback.

    rehearse.py API BENCH [--pods N] [--rate N] [--kill]

Real PostgreSQL is not in it: pods keep stories in memory-less folders of their own, since what is tried is the way of a
connection. The balancer works on connections (mode tcp), as kube-proxy does, never retries, and learns from readiness alone
that a pod goes. Under a steady load of keep-alive connections each pod is replaced as the Deployment would (maxUnavailable 0:
the successor is ready before the old one gets SIGTERM). Every request must be answered with a 2xx. Ends with 1 where one
was not. With --kill the old pods get SIGKILL, and it is an error if no request fails: so it would be seen.
"""

import argparse
import http.client
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

DRAIN_DELAY = 2
# Readiness is looked at twice a second here, every 5 s in a cluster: DRAIN_DELAY is as much shorter.
LOOK_MS = 500
DEADLINE = 60


def free_port():
    """A port where nobody listens, below those that the kernel gives out: who stops for a moment finds it free again."""
    while True:
        port = random.randrange(10_000, 30_000)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return port


def until(what, done):
    end = time.monotonic() + DEADLINE
    while not done():
        if time.monotonic() > end:
            raise SystemExit(f"FAILED  rehearsal: {what} took longer than {DEADLINE} s")
        time.sleep(0.05)


def status(port, path):
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
        connection.request("GET", path)
        return connection.getresponse().status
    except OSError:
        return None


class Pod:
    def __init__(self, binary, folder, name):
        self.port = free_port()
        self.log = open(folder / f"{name}.log", "wb")
        settings = {
            "PATH": os.environ["PATH"],
            "HOST": "127.0.0.1",
            "PORT": str(self.port),
            "WORKERS": "1",
            "PIN": "never",
            "DATA_DIR": str(folder / name),
            "DRAIN_DELAY": f"{DRAIN_DELAY}s",
            "GRACEFUL_TIMEOUT": "30s",
        }
        self.process = subprocess.Popen([binary, "serve"], env=settings, stdout=self.log, stderr=self.log)

    def ready(self):
        return status(self.port, "/health/v2/ready") == 200


class Balancer:
    """HAProxy with places for pods, filled and emptied over its runtime socket."""

    def __init__(self, folder, places, look_ms):
        self.port = free_port()
        self.control = folder / "control"
        config = folder / "haproxy.cfg"
        config.write_text(
            f"""
global
    stats socket {self.control} mode 600 level admin
defaults
    mode tcp
    timeout connect 2s
    timeout client 60s
    timeout server 60s
    retries 0
frontend service
    bind 127.0.0.1:{self.port}
    default_backend pods
backend pods
    balance roundrobin
    option httpchk GET /health/v2/ready
    default-server check inter {look_ms}ms fall 1 rise 1 init-addr none
"""
            + "".join(f"    server place{i} 127.0.0.1:1 disabled\n" for i in range(places))
        )
        self.process = subprocess.Popen(["haproxy", "-db", "-f", config], stderr=open(folder / "haproxy.log", "wb"))
        until("the balancer's start", self.control.exists)

    def tell(self, command):
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(5)
            line.connect(str(self.control))
            line.sendall(command.encode() + b"\n")
            answer = b""
            while piece := line.recv(65536):
                answer += piece
        return answer.decode()

    def add(self, place, pod):
        self.tell(f"set server pods/place{place} addr 127.0.0.1 port {pod.port}")
        self.tell(f"set server pods/place{place} check-port {pod.port}")
        self.tell(f"set server pods/place{place} state ready")
        until("the balancer's look at a new pod", lambda: self.state(place) == "UP")

    def remove(self, place):
        self.tell(f"set server pods/place{place} state maint")

    def state(self, place):
        for line in self.tell("show stat").splitlines():
            fields = line.split(",")
            if fields[:2] == ["pods", f"place{place}"]:
                return fields[17]
        return None


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("api")
    arguments.add_argument("bench")
    arguments.add_argument("--pods", type=int, default=4)
    arguments.add_argument("--rate", type=int, default=500)
    arguments.add_argument("--kill", action="store_true")
    asked = arguments.parse_args()
    folder = Path(tempfile.mkdtemp())
    running = []
    try:
        rehearse(asked, folder, running)
    finally:
        for process in running:
            if process.poll() is None:
                process.kill()
            process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def rehearse(asked, folder, running):
    pods = [Pod(asked.api, folder, f"old{i}") for i in range(asked.pods)]
    running += [pod.process for pod in pods]
    # A balancer that is slow to see that a pod is gone must cost requests where the pod does not wait for it.
    balancer = Balancer(folder, asked.pods + 1, 4 * LOOK_MS if asked.kill else LOOK_MS)
    running.append(balancer.process)
    for place, pod in enumerate(pods):
        until("a pod's start", pod.ready)
        balancer.add(place, pod)

    # As long as it may last; it is told to stop when the last pod has been replaced.
    seconds = asked.pods * (DRAIN_DELAY + 4) + 4
    load = subprocess.Popen(
        [
            asked.bench, "load", "--url", f"http://127.0.0.1:{balancer.port}/api/v1/stories/generate", "--method", "POST",
            "--body", '{"location":"San Francisco","style":"adventure"}', "--connections", "32",
            "--rate", str(asked.rate), "--duration", str(seconds), "--quiet", "--accept-generator-limits", "--json",
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    running.append(load)
    time.sleep(1)
    begun = time.monotonic()
    spare = asked.pods
    replaced = 0
    for place, old in enumerate(pods):
        new = Pod(asked.api, folder, f"new{place}")
        running.append(new.process)
        until("a successor's start", new.ready)
        balancer.add(spare, new)
        old.process.send_signal(signal.SIGKILL if asked.kill else signal.SIGTERM)
        until("the balancer's look at a pod that goes", lambda place=place: balancer.state(place) != "UP")
        old.process.wait(DEADLINE)
        if old.process.returncode != 0 and not asked.kill:
            raise SystemExit(f"FAILED  rehearsal: a pod ended with {old.process.returncode}")
        balancer.remove(place)
        spare = place
        replaced += 1
    took = time.monotonic() - begun
    out, _ = load.communicate(timeout=seconds + DEADLINE)
    report = json.loads(out)
    if took + 1 > seconds:
        raise SystemExit(f"FAILED  rehearsal: the load ended after {seconds} s, before the update did ({took:.0f} s)")
    answered = report["requests"]
    failed = report["error_count"]
    line = f"rehearsal: {replaced} pods replaced in {took:.0f} s, {answered} requests answered, {failed} failed, {report['reconnects']} connections renewed"
    if asked.kill:
        if not failed or load.returncode == 0:
            raise SystemExit(f"FAILED  {line}: pods were killed, and nobody has seen it")
        print(f"ok      {line}: what must fail when pods are killed")
        return
    if failed or load.returncode != 0 or answered < asked.rate * seconds * 0.5:
        print(json.dumps(report))
        raise SystemExit(f"FAILED  {line}")
    print(f"ok      {line}")


if __name__ == "__main__":
    main()
