"""Walks a server through its life under the seccomp profile of the io-uring overlay, on both drivers: PostgreSQL over TLS,
Redis, TLS and HTTP/2 of its own, load, the journal while PostgreSQL is away, limits, a stuck worker whose stack is taken,
SIGHUP, SIGTTIN, SIGTTOU, SIGUSR2, SIGTERM; and one that is short of memory. tests/deploy/run calls it.

    profile.py API BENCH [PROFILE]

A call that the profile does not allow ends the process at once (under_profile.py), so what has ended well has met none.
The binary is one of a debug build: only those have the faults by which a worker is stuck (FAULTS=1).
"""

import glob
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from rehearse import free_port, until

HERE = Path(__file__).resolve().parent
PROFILE = HERE.parents[1] / "deploy/seccomp/roadtrip-io-uring.json"
NOBODY = 65534


def fail(what):
    raise SystemExit(f"FAILED  seccomp: {what}")


class Postgres:
    def __init__(self, folder, key, certificate):
        self.folder = folder / "postgres"
        self.port = free_port()
        self.folder.mkdir()
        programs = Path(sorted(glob.glob("/usr/lib/postgresql/*/bin"))[-1])
        self.program = programs / "postgres"
        self.own(self.folder)
        subprocess.run([programs / "initdb", "-D", self.folder, "-U", "owner", "-A", "trust", "--no-sync"], check=True, stdout=subprocess.DEVNULL, **self.who())
        for name, source in (("server.key", key), ("server.crt", certificate)):
            shutil.copy(source, self.folder / name)
            (self.folder / name).chmod(0o600)
            self.own(self.folder / name)
        self.process = None

    @staticmethod
    def own(path):
        if os.getuid() == 0:
            os.chown(path, NOBODY, NOBODY)

    @staticmethod
    def who():
        """PostgreSQL refuses to be root."""
        return {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.getuid() == 0 else {}

    def start(self):
        self.process = subprocess.Popen(
            [self.program, "-D", self.folder, "-p", str(self.port), "-k", "", "-c", "ssl=on", "-c", "fsync=off"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/", **self.who(),
        )

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        self.process.wait(30)


class Caged:
    """A server under the profile."""

    def __init__(self, api, profile, driver, folder, settings):
        self.driver = driver
        self.plain, self.tls = free_port(), free_port()
        self.log = folder / f"{driver}.log"
        settings = {
            "PATH": os.environ["PATH"], "LOG_FORMAT": "json", "IO_DRIVER": driver, "WORKERS": "2", "PIN": "auto", "FAULTS": "1",
            "BIND": f"http://127.0.0.1:{self.plain},https://127.0.0.1:{self.tls}", "PIDFILE": str(folder / f"{driver}.pid"),
            # As process 1 of a pod does: the first stays, and hands signals on.
            "UPGRADE_STAY": "true", "JOURNAL_DIR": str(folder / f"{driver}.journal"), **settings,
        }
        self.pid_file = Path(settings["PIDFILE"])
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, HERE / "under_profile.py", profile, api, "serve"], env=settings, stdout=log, stderr=log
            )

    def ask(self, path, *more, tls=False):
        """Status and body."""
        scheme, port = ("https", self.tls) if tls else ("http", self.plain)
        out = subprocess.run(
            ["curl", "-sk", "--max-time", "10", "-w", "\n%{http_code} %{http_version}", *more, f"{scheme}://127.0.0.1:{port}{path}"],
            capture_output=True, text=True,
        )
        body, _, last = out.stdout.rpartition("\n")
        return last, body

    def story(self, place, *more, tls=False):
        said, body = self.ask(
            "/api/v1/stories/generate", "-H", "content-type: application/json", "-d", json.dumps({"location": place}), *more, tls=tls
        )
        if not said.startswith("200"):
            fail(f"{self.driver}: no story of {place}: {said} {body[:300]}\n{self.tail()}")
        return said

    def tail(self):
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])

    def until(self, what, done):
        def alive():
            if self.process.poll() is not None:
                fail(f"{self.driver}: it ended with {self.process.returncode} before {what}\n{self.tail()}")
            return done()

        until(f"{self.driver}: {what}", alive)

    def says(self, text):
        return text in self.log.read_text(errors="replace")


def walk(server, bench):
    """What both drivers are put through at the same time."""
    server.until("it is ready", lambda: server.ask("/health/v2/ready")[0].startswith("200"))
    if f'"{server.driver}"' not in server.ask("/health/v2/status")[1]:
        fail(f"it does not run on {server.driver}")
    for place in ("Rome", "Oslo"):
        server.story(place, "--compressed")
    if server.story("Lima", "--http2", tls=True) != "200 2":
        fail(f"{server.driver}: TLS does not speak HTTP/2")
    server.ask("/api/v1/stories?limit=5", tls=True)
    subprocess.run(
        [bench, "load", "--url", f"http://127.0.0.1:{server.plain}/api/v1/stories/generate", "--method", "POST", "--body", '{"location":"Rome"}',
         "--connections", "16", "--rate", "500", "--duration", "1", "--warmup", "0", "--quiet"],
        stdout=subprocess.DEVNULL,
    )
    # A worker that is stuck for two seconds: its stack is taken, and another accepts for it meanwhile.
    held = threading.Thread(target=server.ask, args=("/health", "-H", "x-fault: block=2500"))
    held.start()
    server.until("the stuck worker's stack", lambda: server.says("a worker is stuck"))
    held.join()
    for number in (signal.SIGTTIN, signal.SIGTTOU, signal.SIGHUP):
        os.kill(server.process.pid, number)
        time.sleep(0.3)
    server.story("Bergen")
    # The same binary takes over; the filter is inherited.
    before = server.pid_file.read_text().strip()
    os.kill(server.process.pid, signal.SIGUSR2)
    server.until("the new process", lambda: server.pid_file.exists() and server.pid_file.read_text().strip() not in ("", before))
    server.story("Turin")


def journals(servers, postgres):
    """PostgreSQL goes: stories go into the journal, and into PostgreSQL when it is back."""
    postgres.stop()
    for server in servers:
        server.story("Hamburg" if server.driver == "epoll" else "Bremen")
    postgres.start()
    for server in servers:
        def empty(server=server):
            found = re.search(r'"journal":\{[^}]*"records":(\d+)', server.ask("/health/v2/status")[1])
            return found and found.group(1) == "0"

        server.until("the journal's way into the database", empty)


def main():
    api, bench, *profile = sys.argv[1:]
    profile = profile[0] if profile else PROFILE
    drivers = os.environ.get("DRIVERS", "uring epoll").split()
    # Of those that PostgreSQL runs as, too.
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    running, servers, postgres = [], [], None
    try:
        key, certificate = folder / "key.pem", folder / "certificate.pem"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate, "-subj", "/CN=localhost", "-days", "2"],
            check=True, capture_output=True,
        )
        postgres = Postgres(folder, key, certificate)
        postgres.start()
        redis = free_port()
        running.append(subprocess.Popen(["redis-server", "--port", str(redis), "--save", "", "--dir", folder], stdout=subprocess.DEVNULL))
        settings = {
            "DATABASE_URL": f"postgresql://owner@127.0.0.1:{postgres.port}/postgres?sslmode=require", "REDIS_URL": f"redis://127.0.0.1:{redis}/0",
            "TLS_CERT": str(certificate), "TLS_KEY": str(key), "STORE_OUTAGE": "journal", "RATE_LIMIT_ENABLED": "true", "AUTO_MIGRATE": "true",
            "WORKER_TIMEOUT": "1s",
        }
        servers = [Caged(api, profile, driver, folder, settings) for driver in drivers]
        walks = [threading.Thread(target=guarded, args=(walk, server, bench), name=server.driver) for server in servers]
        for each in walks:
            each.start()
        for each in walks:
            each.join()
        if FAILURES:
            raise SystemExit("\n".join(FAILURES))
        journals(servers, postgres)
        for server in servers:
            server.process.send_signal(signal.SIGTERM)
            # It ends as the one that took its place does.
            if (status := server.process.wait(30)) != 0:
                fail(f"{server.driver}: it ended with {status}\n{server.tail()}")
            if server.log.read_text(errors="replace").count('"message":"ended"') != 1:
                fail(f"{server.driver}: no word of its drain\n{server.tail()}")
        short_of_memory(servers, lambda: Caged(api, profile, drivers[0], folder, {**settings, "STORE_OUTAGE": "refuse", "MEMORY_MAX": "16M"}))
        print(f"ok      seccomp: a whole life on {' and '.join(drivers)} meets no call that {Path(profile).name} forbids")
    finally:
        for server in servers:
            if server.pid_file.exists() and server.pid_file.read_text().strip():
                try:
                    os.kill(int(server.pid_file.read_text()), signal.SIGKILL)
                except (ProcessLookupError, ValueError):
                    pass
            server.process.kill()
            server.process.wait()
        if postgres and postgres.process and postgres.process.poll() is None:
            postgres.process.send_signal(signal.SIGQUIT)
            postgres.process.wait(30)
        for process in running:
            process.terminate()
            process.wait(20)
        shutil.rmtree(folder, ignore_errors=True)


def short_of_memory(servers, start):
    """One that has less than it needs: caches shrink, memory is given back, and the probes answer as the manifests expect."""
    server = start()
    servers.append(server)
    server.until("memory is short", lambda: "memory_pressure_level 2" in server.ask("/metrics")[1])
    for path, wanted in (("/health/v2/live", "200"), ("/health/v2/ready", "503"), ("/health", "200"), ("/api/v1/styles", "503")):
        said, body = server.ask(path)
        if not said.startswith(wanted):
            fail(f"{server.driver}: {path} where memory is short: {said} {body[:300]}")
    time.sleep(1)  # Some steps of the caches.
    server.process.send_signal(signal.SIGTERM)
    if (status := server.process.wait(30)) != 0:
        fail(f"{server.driver}: short of memory, it ended with {status}\n{server.tail()}")


FAILURES = []


def guarded(act, *arguments):
    try:
        act(*arguments)
    except SystemExit as error:
        FAILURES.append(str(error))


if __name__ == "__main__":
    main()
