"""Has the real kubectl apply the manifest, every overlay and the seccomp objects with --dry-run=client. tests/deploy/run calls it.

kubectl does nothing without a server to ask which kinds there are and what exists already, not even a dry run. The server
here tells the kinds and that nothing exists; it stores nothing, and a request that would change something is an error.
"""

import http.server
import json
import shutil
import subprocess
import sys
import threading

from manifests import DEPLOY, FILE, OVERLAYS, ROOT, name_of
from render import load, render

# Group and version -> kind -> plural.
KINDS = {
    "v1": {"ServiceAccount": "serviceaccounts", "Service": "services", "Secret": "secrets"},
    "apps/v1": {"Deployment": "deployments", "DaemonSet": "daemonsets"},
    "autoscaling/v2": {"HorizontalPodAutoscaler": "horizontalpodautoscalers"},
    "policy/v1": {"PodDisruptionBudget": "poddisruptionbudgets"},
    "networking.k8s.io/v1": {"NetworkPolicy": "networkpolicies"},
    "monitoring.coreos.com/v1": {"PodMonitor": "podmonitors"},
    "keda.sh/v1alpha1": {"ScaledObject": "scaledobjects"},
    "security-profiles-operator.x-k8s.io/v1beta1": {"SeccompProfile": "seccompprofiles"},
}


def answer(path):
    """Status and body for a GET."""
    if path == "/api":
        return 200, {"kind": "APIVersions", "versions": ["v1"]}
    if path == "/apis":
        groups = []
        for version in KINDS:
            if "/" in version:
                one = {"groupVersion": version, "version": version.split("/")[1]}
                groups.append({"name": version.split("/")[0], "versions": [one], "preferredVersion": one})
        return 200, {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
    for version, kinds in KINDS.items():
        if path == ("/api/v1" if version == "v1" else f"/apis/{version}"):
            resources = [
                {"name": plural, "singularName": "", "namespaced": True, "kind": kind, "verbs": ["get", "create", "patch"]}
                for kind, plural in kinds.items()
            ]
            return 200, {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": resources}
    return 404, {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}


class Server(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        status, body = answer(self.path.split("?")[0])
        body = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def main():
    if not shutil.which("kubectl"):
        print("ok      kubectl apply --dry-run=client: no kubectl on this machine")
        return
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    todo = [("-f", path, load(path)) for path in [FILE, *sorted(DEPLOY.glob("seccomp/*.yaml"))]]
    todo += [("-k", folder, render(folder)) for folder in OVERLAYS]
    count = 0
    for option, path, objects in todo:
        out = subprocess.run(
            # The schemas are manifests.py's; this server has none.
            ["kubectl", "--kubeconfig=/dev/null", f"--server=http://127.0.0.1:{server.server_port}", "apply", "--dry-run=client", "--validate=false", "-o", "name", option, path],
            capture_output=True, text=True,
        )
        what = path.relative_to(ROOT)
        if out.returncode:
            sys.exit(f"FAILED  kubectl apply --dry-run=client {option} {what}: {out.stderr}")
        told = sorted(line.split("/")[0].split(".")[0] + "/" + line.split("/")[1] for line in out.stdout.split())
        ours = sorted("/".join(name_of(thing)).replace(thing["kind"], thing["kind"].lower(), 1) for thing in objects)
        if told != ours:
            sys.exit(f"FAILED  kubectl apply --dry-run=client {option} {what}: {told} in place of {ours}")
        count += len(told)
    print(f"ok      kubectl apply --dry-run=client: {count} objects of {len(todo)} files and overlays")


if __name__ == "__main__":
    main()
