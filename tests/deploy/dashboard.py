"""Asks every panel of the dashboard, and every rule, of a real Prometheus that scrapes running servers under load.

    dashboard.py API BENCH [--page FILE] [--seconds N]

Two pods tell stories under a load of their own, some requests are refused on purpose, and Prometheus scrapes them once a
second with the labels that the PodMonitor gives. Each query must give data, with the labels that its legend names, for
each pod or worker. What kube-state-metrics tells of the autoscaler is told here by a stand-in, as there is no cluster.
With --page the panels are drawn to an HTML page, where a person can look at them.
"""

import argparse
import http.client
import http.server
import json
import math
import os
import re
import shutil
import subprocess
import tempfile
import threading
import time
import urllib.parse
import urllib.request
from pathlib import Path

from rehearse import free_port, status, until

ROOT = Path(__file__).resolve().parents[2]
MONITORING = ROOT / "deploy/monitoring"
DASHBOARD = MONITORING / "grafana/dashboards/roadtrip-scaling-v1.json"
PODS = {"roadtrip-api-a": 150, "roadtrip-api-b": 50}  # requests a second
WORKERS = 2
STATE = """\
kube_horizontalpodautoscaler_status_desired_replicas{horizontalpodautoscaler="roadtrip-api-hpa",namespace="stories"} 4
kube_horizontalpodautoscaler_spec_max_replicas{horizontalpodautoscaler="roadtrip-api-hpa",namespace="stories"} 20
"""
STORY = json.dumps({"location": "San Francisco", "style": "adventure"})


class State(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.end_headers()
        self.wfile.write(STATE.encode())

    def log_message(self, *_):
        pass


class Prometheus:
    def __init__(self, folder, pods, state):
        self.port = free_port()
        config = folder / "prometheus.yml"
        targets = "".join(
            f"""
      - targets: ["127.0.0.1:{port}"]
        labels: {{namespace: stories, pod: {name}}}"""
            for name, port in pods.items()
        )
        config.write_text(
            f"""
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: ["{MONITORING}/rules.yml"]
scrape_configs:
  - job_name: roadtrip-api
    static_configs:{targets}
  - job_name: kube-state-metrics
    honor_labels: true
    static_configs:
      - targets: ["127.0.0.1:{state}"]
"""
        )
        self.process = subprocess.Popen(
            [
                "prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder / 'tsdb'}",
                f"--web.listen-address=127.0.0.1:{self.port}", "--log.level=error",
            ]
        )

    def ask(self, path, **asked):
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(asked)}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)["data"]

    def now(self, expression):
        """The series of an expression: labels and value, without those that are not a number."""
        found = self.ask("query", query=expression)["result"]
        return [(each["metric"], float(each["value"][1])) for each in found if not math.isnan(float(each["value"][1]))]


def queries():
    """(panel, its expression, its legend) with the dashboard's variables as they are after a start: All."""
    dashboard = json.loads(DASHBOARD.read_text())
    defaults = {each["name"]: each.get("allValue") for each in dashboard["templating"]["list"]}
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            expression = re.sub(r"\$(\w+)", lambda match: defaults[match.group(1)], target["expr"])
            yield panel, expression, target["legendFormat"]


def missing(prometheus):
    """What gives no data yet, or other data than it says; empty when all is well."""
    wrong = []
    for panel, expression, legend in queries():
        found = prometheus.now(expression)
        what = f"{panel['title']}: {expression}"
        if not found:
            wrong.append(f"{what}: no data")
        names = re.findall(r"\{\{(\w+)\}\}", legend)
        for label in names:
            if any(label not in labels for labels, _ in found):
                wrong.append(f"{what}: a series without {label}, which its legend names")
        if names == ["pod"] and {labels.get("pod") for labels, _ in found} != set(PODS):
            wrong.append(f"{what}: not every pod")
        if "worker_id" in names and len(found) != WORKERS * len(PODS):
            wrong.append(f"{what}: {len(found)} workers")
        # What a healthy pod has none of.
        quiet = panel["title"] in ("Requests in flight by worker", "Overload and memory: sent away") or "overload_queued" in expression
        if not quiet and not any(value > 0 for _, value in found):
            wrong.append(f"{what}: nothing but nought")
    for variable in json.loads(DASHBOARD.read_text())["templating"]["list"]:
        if match := re.match(r"label_values\((\w+)(\{.*\})?, (\w+)\)", variable.get("definition", "")):
            metric, matcher, label = match.groups()
            matcher = re.sub(r"\$(\w+)", ".*", matcher or "")
            if not prometheus.ask(f"label/{label}/values", **{"match[]": metric + matcher}):
                wrong.append(f"the variable {variable['name']} has no values")
    for group in prometheus.ask("rules")["groups"]:
        for rule in group["rules"]:
            if rule["health"] != "ok":
                wrong.append(f"rule {rule['name']}: {rule['health']} {rule.get('lastError', '')}")
            # An alert without its threshold is a figure, and there must be one.
            figure = re.sub(r"\s*(<|>|==)\s*[\d.e+]+$", "", rule["query"].strip()) if rule["type"] == "alerting" else rule["name"]
            if not prometheus.now(figure):
                wrong.append(f"rule {rule['name']}: no data: {figure}")
    return wrong


def refuse(port):
    """Requests that are answered 404 and 400, for the panel of errors."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    for method, path, body in [("GET", "/nowhere", None), ("POST", "/api/v1/stories/generate", "{")]:
        connection.request(method, path, body, {"Content-Type": "application/json"})
        connection.getresponse().read()


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("api")
    arguments.add_argument("bench")
    arguments.add_argument("--page", type=Path)
    arguments.add_argument("--seconds", type=int, default=0, help="go on for so long before the page is drawn")
    asked = arguments.parse_args()
    folder = Path(tempfile.mkdtemp())
    running = []
    try:
        watch(asked, folder, running)
    finally:
        for process in running:
            process.terminate()
        for process in running:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
        shutil.rmtree(folder, ignore_errors=True)


def watch(asked, folder, running):
    pods = {}
    for name, rate in PODS.items():
        port = pods[name] = free_port()
        settings = {
            "PATH": os.environ["PATH"], "HOST": "127.0.0.1", "PORT": str(port), "WORKERS": str(WORKERS), "PIN": "never",
            "DATA_DIR": str(folder / name), "DRAIN_DELAY": "0s",
        }
        with open(folder / f"{name}.log", "wb") as log:
            running.append(subprocess.Popen([asked.api, "serve"], env=settings, stdout=log, stderr=log))
        until("a pod's start", lambda port=port: status(port, "/health/v2/ready") == 200)
    state = http.server.ThreadingHTTPServer(("127.0.0.1", 0), State)
    threading.Thread(target=state.serve_forever, daemon=True).start()
    prometheus = Prometheus(folder, pods, state.server_port)
    running.append(prometheus.process)
    for name, rate in PODS.items():
        running.append(
            subprocess.Popen(
                [
                    asked.bench, "load", "--url", f"http://127.0.0.1:{pods[name]}/api/v1/stories/generate", "--method", "POST",
                    "--body", STORY, "--connections", "8", "--rate", str(rate), "--duration", str(120 + asked.seconds), "--quiet", "--json",
                ],
                stdout=subprocess.DEVNULL,
            )
        )
    begun = time.monotonic()
    wrong = ["Prometheus does not answer"]
    while wrong and time.monotonic() < begun + 90:
        time.sleep(2)
        refuse(pods["roadtrip-api-a"])
        try:
            wrong = missing(prometheus)
        except OSError:
            continue
    if wrong:
        raise SystemExit("FAILED  dashboard:\n" + "\n".join(wrong))
    took = time.monotonic() - begun
    count = len(list(queries()))
    print(f"ok      dashboard: {count} queries and every rule give data, after {took:.0f} s of scrapes")
    if asked.page:
        from dashboard_page import draw

        while time.monotonic() < begun + asked.seconds:
            time.sleep(1)
            refuse(pods["roadtrip-api-a"])
        end = time.time()
        drawn = [
            (panel, legend, prometheus.ask("query_range", query=expression, start=end - max(asked.seconds, took), end=end, step=1)["result"])
            for panel, expression, legend in queries()
        ]
        asked.page.write_text(draw(drawn))


if __name__ == "__main__":
    main()
