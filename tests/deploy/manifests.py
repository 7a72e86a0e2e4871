"""Checks deploy/ as a cluster would, and against the binary and the runbooks. tests/deploy/run calls it.

    manifests.py BINARY

Prints a line for each check and ends with 1 where one failed. Each check is a function whose name begins with `check_`;
it fails by an AssertionError, whose text says what is wrong.
"""

import json
import math
import re
import subprocess
import sys
import warnings
from pathlib import Path

import kubernetes_validate
import yaml

from render import containers, load, name_of, pod, render

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
FILE = DEPLOY / "k8s/roadtrip-deployment.yaml"
OVERLAYS = sorted(path.parent for path in DEPLOY.glob("overlays/*/kustomization.yaml"))
# The oldest that the manifests claim, the newest that the schemas know, and two between.
VERSIONS = ["1.29", "1.31", "1.34", "1.37"]
# Objects of operators, of which Kubernetes has no schema.
FOREIGN = {"PodMonitor", "ScaledObject", "SeccompProfile"}


def every():
    """(where, objects) of the plain file and of each overlay."""
    yield FILE.relative_to(ROOT), load(FILE)
    for folder in OVERLAYS:
        yield folder.relative_to(ROOT), render(folder)


def find(objects, kind, name):
    found = [thing for thing in objects if name_of(thing) == (kind, name)]
    assert len(found) == 1, f"{kind} {name} is there {len(found)} times"
    return found[0]


def api(objects):
    """The Deployment and its server's container."""
    deployment = find(objects, "Deployment", "roadtrip-api")
    (container,) = [c for c in pod(deployment)["containers"] if c["name"] == "roadtrip-api"]
    return deployment, container


def environment(container):
    return {entry["name"]: entry.get("value") for entry in container.get("env", [])}


def seconds(text):
    number, unit = re.fullmatch(r"(\d+)(s|m|ms|)", text).groups()
    return int(number) * {"s": 1, "m": 60, "ms": 0.001, "": 1}[unit]


def cpus(quantity):
    return int(quantity[:-1]) / 1000 if quantity.endswith("m") else float(quantity)


def check_schemas(_binary):
    checked = 0
    others = [(path.relative_to(ROOT), load(path)) for path in sorted(DEPLOY.glob("seccomp/*.yaml"))]
    for where, objects in [*every(), *others]:
        for thing in objects:
            if thing["kind"] in FOREIGN:
                continue
            for version in VERSIONS:
                try:
                    kubernetes_validate.validate(thing, version, strict=True)
                except kubernetes_validate.ValidationError as error:
                    raise AssertionError(f"{where}: {name_of(thing)}: {version}: {error.message}") from error
                checked += 1
    assert checked > 100, checked
    return f"{checked} objects, Kubernetes {', '.join(VERSIONS)}"


def check_kubectl_renders_the_same(_binary):
    try:
        version = json.loads(
            subprocess.run(
                ["kubectl", "version", "--client", "-o", "json"], capture_output=True, check=True, text=True
            ).stdout
        )["clientVersion"]
    except FileNotFoundError:
        return "no kubectl on this machine: rendered by render.py alone"
    minor = int(re.match(r"\d+", version["minor"]).group())
    if minor < 27:
        return f"kubectl 1.{minor} is too old for components and patches: rendered by render.py alone"
    for folder in OVERLAYS + [DEPLOY / "k8s"]:
        out = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True)
        assert out.returncode == 0, out.stderr
        assert "deprecated" not in out.stderr, out.stderr
        theirs = {name_of(thing): thing for thing in yaml.safe_load_all(out.stdout)}
        for thing in theirs.values():
            if thing["kind"] == "Secret":  # base64 that kubectl has broken into lines
                thing["data"] = {key: "".join(value.split()) for key, value in thing["data"].items()}
        ours = {name_of(thing): thing for thing in render(folder)}
        assert theirs.keys() == ours.keys(), f"{folder}: {theirs.keys() ^ ours.keys()}"
        for name, thing in ours.items():
            assert ordered(thing) == ordered(theirs[name]), f"{folder}: {name} differs from kubectl's"
    return f"kubectl 1.{minor}, {len(OVERLAYS) + 1} folders"


def ordered(thing):
    """The same with every list of named things in the order of names: where a merge puts a new one says nothing."""
    if isinstance(thing, dict):
        return {key: ordered(value) for key, value in thing.items()}
    if isinstance(thing, list):
        items = [ordered(item) for item in thing]
        named = all(isinstance(item, dict) and "name" in item for item in items)
        return sorted(items, key=lambda item: item["name"]) if named else items
    return thing


def check_the_guides_objects(_binary):
    for where, objects in every():
        deployment, container = api(objects)
        for thing in (deployment, deployment["spec"]["template"]):
            assert thing["metadata"]["labels"]["app"] == "roadtrip-api", where
        assert deployment["spec"]["selector"]["matchLabels"] == {"app": "roadtrip-api"}, where
        service = find(objects, "Service", "roadtrip-api")
        assert service["spec"]["sessionAffinity"] == "ClientIP", where
        assert service["spec"]["ports"][0]["port"] == 80, f"{where}: the guide's curl http://roadtrip-api/ means port 80"
        assert service["spec"]["ports"][0]["targetPort"] in [port["name"] for port in container["ports"]], where
        assert "replicas" not in deployment["spec"], f"{where}: the autoscaler owns the number of pods"
        secrets = {
            entry["name"]: tuple(entry["valueFrom"]["secretKeyRef"].values())
            for entry in container["env"]
            if "valueFrom" in entry
        }
        assert secrets == {
            "DATABASE_URL": ("roadtrip-secrets", "database-url"),
            "REDIS_URL": ("roadtrip-secrets", "redis-url"),
        }, f"{where}: {secrets}"
        if where.name in ("roadtrip-deployment.yaml", "burstable"):
            assert container["resources"] == {
                "requests": {"cpu": "1", "memory": "2Gi"},
                "limits": {"cpu": "2", "memory": "4Gi"},
            }, where
        if where.name == "dev":
            continue
        low, high, behaviour = scaling(objects)
        assert (low, high) == (4, 20), where
        assert behaviour["scaleUp"]["stabilizationWindowSeconds"] == 60, where
        assert behaviour["scaleDown"]["stabilizationWindowSeconds"] == 300, where


def scaling(objects):
    """Least and most pods, and the behaviour, of an HPA or of KEDA's object that makes one."""
    if hpas := [thing for thing in objects if thing["kind"] == "HorizontalPodAutoscaler"]:
        (hpa,) = hpas
        assert hpa["metadata"]["name"] == "roadtrip-api-hpa"
        assert hpa["spec"]["scaleTargetRef"]["name"] == "roadtrip-api"
        return hpa["spec"]["minReplicas"], hpa["spec"]["maxReplicas"], hpa["spec"]["behavior"]
    spec = find(objects, "ScaledObject", "roadtrip-api")["spec"]
    config = spec["advanced"]["horizontalPodAutoscalerConfig"]
    assert config["name"] == "roadtrip-api-hpa", "the guide's `kubectl get hpa` would not find it"
    return spec["minReplicaCount"], spec["maxReplicaCount"], config["behavior"]


def check_selectors_meet_pods(_binary):
    for where, objects in every():
        pods = [thing["spec"]["template"]["metadata"]["labels"] for thing in objects if pod(thing)]
        for thing in objects:
            spec = thing.get("spec", {})
            selector = spec.get("podSelector") or spec.get("selector") or {}
            if not selector or thing["kind"] == "Deployment":
                continue
            labels = selector.get("matchLabels", selector)
            meets = sum(labels.items() <= pod.items() for pod in pods)
            assert meets == 1, f"{where}: {name_of(thing)} selects {meets} kinds of pods"


def check_restricted_pod_security(_binary):
    """Kubernetes' "restricted" Pod Security Standard, and a read-only root beyond it."""
    for where, objects in every():
        for thing in objects:
            spec = pod(thing)
            if spec is None:
                continue
            above = spec.get("securityContext", {})
            for key in ("hostNetwork", "hostPID", "hostIPC"):
                assert not spec.get(key), f"{where}: {key}"
            for volume in spec.get("volumes", []):
                kinds = set(volume) - {"name"}
                assert kinds <= {"configMap", "emptyDir", "projected", "secret"}, f"{where}: {kinds}"
            for container in containers(thing):
                what = f"{where}: {name_of(thing)}: {container['name']}"
                own = {**above, **container.get("securityContext", {})}
                assert own.get("runAsNonRoot") is True, what
                assert own.get("runAsUser", 0) != 0, what
                assert own.get("allowPrivilegeEscalation") is False, what
                assert own.get("capabilities") == {"drop": ["ALL"]}, what
                assert own.get("seccompProfile", {}).get("type") in ("RuntimeDefault", "Localhost"), what
                assert not own.get("privileged"), what
                if name_of(thing)[1] == "roadtrip-api":
                    assert own.get("readOnlyRootFilesystem") is True, what
                    assert own["runAsUser"] == 65532, what
                assert "limits" in container["resources"] and "requests" in container["resources"], what
            assert spec.get("automountServiceAccountToken") is False, where


def check_the_network_policy_lets_through_what_is_needed(_binary):
    for where, objects in every():
        spec = find(objects, "NetworkPolicy", "roadtrip-api")["spec"]
        names = {port["name"]: port["containerPort"] for port in api(objects)[1]["ports"]}
        through = {
            (way, names.get(port["port"], port["port"]), port["protocol"])
            for way in ("ingress", "egress")
            for rule in spec[way]
            # A rule with a peer would hold for that peer alone.
            if not rule.get("from") and not rule.get("to")
            for port in rule["ports"]
        }
        needed = {("ingress", 8080, "TCP"), ("egress", 53, "UDP"), ("egress", 53, "TCP"), ("egress", 5432, "TCP"), ("egress", 6379, "TCP")}
        for service in objects:
            if service["kind"] == "Service" and service["metadata"]["name"] != "roadtrip-api":
                needed |= {("egress", port["port"], "TCP") for port in service["spec"]["ports"]}
        assert needed <= through, f"{where}: {needed - through}"
        # Nothing else: no web, so neither another's API nor the cloud's metadata.
        assert ("egress", 80, "TCP") not in through and len(through) <= 7, f"{where}: {through}"


def check_the_end_of_a_pod_fits_its_grace(_binary):
    for where, objects in every():
        deployment, container = api(objects)
        has = environment(container)
        hook = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        needs = hook + seconds(has["DRAIN_DELAY"]) + seconds(has["GRACEFUL_TIMEOUT"]) + winding_up()
        grace = pod(deployment)["terminationGracePeriodSeconds"]
        assert needs < grace, f"{where}: {needs} s do not fit into {grace} s"
        assert seconds(has["TERMINATION_GRACE"]) == grace, f"{where}: TERMINATION_GRACE is not the pod's"
        probe = container["livenessProbe"]
        if where.name != "dev":
            assert probe["periodSeconds"] * probe["failureThreshold"] >= seconds(has["GRACEFUL_TIMEOUT"]), where


def winding_up():
    """Seconds that the server takes beyond GRACEFUL_TIMEOUT: limits::health::DRAIN_MARGIN_MS and limits::drain::STORE_CLOSE."""
    threads = re.search(r"DRAIN_MARGIN_MS: u64 = ([\d_]+)", limits()).group(1).replace("_", "")
    return int(threads) / 1000 + int(re.search(r"STORE_CLOSE: Duration = Duration::from_secs\((\d+)\)", limits()).group(1))


def limits():
    return "\n".join(path.read_text() for path in sorted((ROOT / "src").glob("limits*/**/*.rs")) + [ROOT / "src/limits.rs"] if path.exists())


def check_a_drain_keeps_the_capacity(_binary):
    objects = load(FILE)
    share = find(objects, "PodDisruptionBudget", "roadtrip-api")["spec"]["maxUnavailable"]
    target = find(objects, "HorizontalPodAutoscaler", "roadtrip-api-hpa")["spec"]["metrics"][0]["resource"]["target"]
    worst = 0
    for pods in range(4, 21):
        gone = math.ceil(pods * int(share.rstrip("%")) / 100)
        worst = max(worst, target["averageUtilization"] / 100 * pods / (pods - gone))
    assert worst < 1, f"with {share} gone the rest would have to give {worst:.0%} of what it can"
    rolling = find(objects, "Deployment", "roadtrip-api")["spec"]["strategy"]["rollingUpdate"]
    assert rolling == {"maxUnavailable": 0, "maxSurge": "25%"}
    pods_max = int(environment(api(objects)[1])["PODS_MAX"])
    assert pods_max >= math.ceil(20 * 1.25), "PODS_MAX leaves out the surge"
    return f"at worst {worst:.0%} of capacity"


def check_whole_cpus_where_guaranteed(_binary):
    deployment, _ = api(render(DEPLOY / "overlays/guaranteed"))
    for container in containers(deployment):
        resources = container["resources"]
        assert resources["requests"] == resources["limits"], container["name"]
        assert cpus(resources["limits"]["cpu"]).is_integer(), container["name"]


def variables(binary):
    """Every variable of the server, with what stands in brackets behind it."""
    text = subprocess.run([binary, "help", "serve"], capture_output=True, check=True, text=True).stdout
    found = dict(re.findall(r"^  ([A-Z][A-Z0-9_]+) (\[.*\])$", text, re.M))
    assert "DATABASE_URL" in found and len(found) > 50, len(found)
    return found


def check_variables_are_the_servers(binary):
    known = variables(binary)
    for where, objects in every():
        for container in containers(find(objects, "Deployment", "roadtrip-api")):
            unknown = set(environment(container)) - known.keys()
            assert not unknown, f"{where}: {container['name']}: {unknown}"
    for page in sorted(DEPLOY.glob("**/*.md")):
        for name in re.findall(r"\b([A-Z][A-Z0-9_]{2,})=", page.read_text()):
            assert name in known or name in {"PROJECT_ID"}, f"{page.relative_to(ROOT)}: {name}"


def check_the_server_takes_the_manifests_settings(binary):
    for where, objects in every():
        _, container = api(objects)
        has = {name: value for name, value in environment(container).items() if value is not None}
        has["DATABASE_URL"] = "postgresql://user:password@127.0.0.1:5432/roadtrip"
        has["REDIS_URL"] = "redis://127.0.0.1:6379/0"
        # What the pod's control group would tell.
        limit = container["resources"]["limits"]
        has |= {"MEMORY_MAX": limit["memory"], "WORKERS": str(math.ceil(cpus(limit["cpu"])))}
        out = subprocess.run([binary, "check"], env=has, capture_output=True, text=True)
        assert out.returncode == 0, f"{where}: {out.stderr}"
        # What it warns of at start was not thought through here. This machine may have fewer CPUs than the pod.
        warned = [line for line in (out.stdout + out.stderr).splitlines() if line.startswith("warning: ") and "WORKERS=" not in line]
        assert not warned, f"{where}: {warned}"


def check_the_sums_of_these_pages(binary):
    """Where a page adds up the end of a pod, the sum is the server's own: a grace of a second less is warned of."""
    _, container = api(load(FILE))
    has = {name: value for name, value in environment(container).items() if value is not None}
    needs = seconds(has["DRAIN_DELAY"]) + seconds(has["GRACEFUL_TIMEOUT"]) + winding_up()
    secret = {"DATABASE_URL": "postgresql://u:p@127.0.0.1:5432/r", "REDIS_URL": "redis://127.0.0.1:6379/0"}
    for grace, fits in ((needs, True), (needs - 1, False)):
        out = subprocess.run([binary, "check"], env={**has, **secret, "TERMINATION_GRACE": f"{grace:.0f}s"}, capture_output=True, text=True)
        assert ("warning: TERMINATION_GRACE" not in out.stdout + out.stderr) == fits, f"{grace} s: {out.stdout}{out.stderr}"
    for path in (FILE, DEPLOY / "README.md"):
        (sum_,) = re.findall(r"GRACEFUL_TIMEOUT 30 \+ .*?= (\d+)\b", " ".join(path.read_text().replace("#", "").split()))
        assert int(sum_) == needs, f"{path.relative_to(ROOT)} says {sum_}, the server {needs:.0f}"
    (margin,) = re.findall(r"GRACEFUL_TIMEOUT \+ (\d+) s must be less", (DEPLOY / "helm/roadtrip-api/values.yaml").read_text())
    assert int(margin) == winding_up(), margin


def paths_of(binary):
    description = json.loads(subprocess.run([binary, "openapi"], capture_output=True, check=True, text=True).stdout)
    return set(description["paths"]) | {"/openapi.json", "/docs"}


def check_probes_ask_routes_that_are_there(binary):
    known = paths_of(binary)
    for where, objects in every():
        deployment, container = api(objects)
        names = {port["name"]: port["containerPort"] for port in container["ports"]}
        assert names["http"] == int(environment(container)["PORT"]), where
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            get = container[probe]["httpGet"]
            assert get["path"] in known and get["port"] in names, f"{where}: {probe}"
        assert container["readinessProbe"]["httpGet"]["path"] == "/health/v2/ready", where
        assert container["livenessProbe"]["httpGet"]["path"] == "/health/v2/live", where
        notes = deployment["spec"]["template"]["metadata"]["annotations"]
        assert notes["prometheus.io/path"] in known and int(notes["prometheus.io/port"]) == names["http"], where


def commands(page):
    """Each command of a page's bash blocks, its continuation lines joined."""
    for block in re.findall(r"```bash\n(.*?)```", page.read_text(), re.S):
        for line in block.replace("\\\n", " ").splitlines():
            if line.strip() and not line.startswith("#"):
                yield " ".join(line.split())


KINDS = {
    "deployment": "Deployment",
    "deploy": "Deployment",
    "hpa": "HorizontalPodAutoscaler",
    "service": "Service",
    "pdb": "PodDisruptionBudget",
    "scaledobject": "ScaledObject",
}


def check_runbooks_name_what_is_there(binary):
    objects = load(FILE)
    deployment, _ = api(objects)
    names = {name_of(thing) for thing in [*objects, *load(DEPLOY / "overlays/keda/scaledobject.yaml")]}
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    inside = {container["name"] for container in containers(deployment)}
    known = paths_of(binary)
    subcommands = subprocess.run([binary, "--help"], capture_output=True, check=True, text=True).stdout
    seen = 0
    for page in sorted(DEPLOY.glob("**/*.md")):
        for command in commands(page):
            what = f"{page.relative_to(ROOT)}: {command}"
            for kind, name in re.findall(r"\b(deployment|deploy|hpa|service|pdb|scaledobject)[/ ](roadtrip[a-z-]*)(?![=a-z-])", command):
                assert (KINDS[kind], name) in names, what
                seen += 1
            for key, value in re.findall(r"(?:^| )-l (\S+?)=(\S+)", command):
                assert key.startswith("kubernetes.io/") or labels.get(key) == value, what
                seen += 1
            for name in re.findall(r" -c (\S+)", command) if command.startswith("kubectl") else []:
                assert name in inside or name.startswith("'"), what
                seen += 1
            for name in re.findall(r"(?:^| )(\S+)=gcr\.io/\S+", command):
                assert name == "--image" or name in inside, what
            for path in re.findall(r"\bdeploy/[\w./-]*", command):
                if path != "deploy/roadtrip-api":
                    assert (ROOT / path).exists(), what
                    seen += 1
            for path in re.findall(r"http://(?:roadtrip-api|localhost:8080)(/[\w./-]*)", command):
                assert path in known, what
                seen += 1
            for name in re.findall(r" /roadtrip-api ([a-z]+)", command):
                assert re.search(rf"^  {name}\b", subcommands, re.M), what
                seen += 1
            for name in re.findall(r"secret generic (\S+)|--target=(\S+)", command):
                assert set(name) & ({"roadtrip-secrets"} | inside), what
                seen += 1
    assert seen > 30, f"only {seen} names were found in the runbooks"
    return f"{seen} names"


def check_metrics_of_the_autoscalers_are_served(_binary):
    text = (ROOT / "src/telemetry/metrics/mod.rs").read_text() + (ROOT / "src/telemetry/metrics/expose.rs").read_text()
    (rules,) = load(DEPLOY / "overlays/rps-hpa/adapter-rules.yaml")
    asked = set()
    made = set()
    for rule in rules["rules"]["custom"]:
        series = rule["seriesQuery"].split("{")[0]
        asked.add(series)
        made.add(rule.get("name", {}).get("as", series))
    hpa = find(render(DEPLOY / "overlays/rps-hpa"), "HorizontalPodAutoscaler", "roadtrip-api-hpa")
    used = {metric["pods"]["metric"]["name"] for metric in hpa["spec"]["metrics"] if metric["type"] == "Pods"}
    assert used == made, f"{used} against {made}"
    for trigger in find(render(DEPLOY / "overlays/keda"), "ScaledObject", "roadtrip-api")["spec"]["triggers"]:
        asked |= set(re.findall(r"\b(\w+)\{", trigger["metadata"].get("query", "")))
    for name in asked:
        assert f'"{name}"' in text, f"the server has no metric {name}"
    keda = find(render(DEPLOY / "overlays/keda"), "ScaledObject", "roadtrip-api")["spec"]["triggers"]
    theirs = {trigger["metadata"]["serverAddress"] for trigger in keda if trigger["type"] == "prometheus"}
    assert theirs == {f"{rules['prometheus']['url']}:{rules['prometheus']['port']}"}, "two ideas of where Prometheus is"
    return load_that_would_scale(rules, hpa)


def load_that_would_scale(rules, hpa):
    """The runbook's load is counted by the adapter, and is more than the HPA lets pass at its fewest pods (a tenth: its tolerance)."""
    query = next(rule["metricsQuery"] for rule in rules["rules"]["custom"] if "http_requests_total" in rule["seriesQuery"])
    left_out = re.search(r'route!~"([^"]+)"', query).group(1)
    ((path, rate),) = [
        re.search(r"load --url http://roadtrip-api(\S+) .*--rate (\d+)", command).groups()
        for command in commands(DEPLOY / "runbooks/scale.md")
        if " load --url " in command
    ]
    assert not re.fullmatch(left_out, path), f"scale.md's load on {path} is not counted as load"
    target = next(int(m["pods"]["target"]["averageValue"]) for m in hpa["spec"]["metrics"] if m["type"] == "Pods" and m["pods"]["metric"]["name"] == "http_requests_per_second")
    needs = hpa["spec"]["minReplicas"] * target * 1.1
    assert int(rate) > needs, f"scale.md's load of {rate} a second scales nothing: it takes {needs:.0f}"
    return f"a load of {rate} a second scales, {needs:.0f} would not"


def rules_of(profile):
    """Each call with its action and what it asks of its arguments, ENOSYS in whichever words."""
    return sorted(
        (name, "ENOSYS" if name == "clone3" and rule["action"] in ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE") else rule["action"], str(rule.get("args")))
        for rule in profile["syscalls"]
        for name in rule["names"]
    )


def check_seccomp_profiles(_binary):
    profile = json.loads((DEPLOY / "seccomp/roadtrip-io-uring.json").read_text())
    (operators,) = load(DEPLOY / "seccomp/security-profiles-operator.yaml")
    theirs = operators["spec"]
    assert theirs["defaultAction"] == profile["defaultAction"]
    assert theirs["architectures"] == profile["architectures"]
    calls = [name for rule in profile["syscalls"] for name in rule["names"]]
    assert rules_of(theirs) == rules_of(profile), "the operator's object differs from the profile"
    plain = [name for rule in profile["syscalls"] if not rule.get("args") for name in rule["names"]]
    assert len(plain) == len(set(plain)), "a call stands there twice"
    # Without the mask of its flags a pod could make namespaces of its own, which the runtimes' default forbids.
    assert not {"clone", "socket"} & set(plain)
    assert {"io_uring_setup", "io_uring_enter", "io_uring_register"} <= set(calls)
    # What no web server needs and what containers were broken out of by.
    bad = {"ptrace", "process_vm_readv", "bpf", "mount", "unshare", "setns", "keyctl", "userfaultfd", "perf_event_open"}
    assert not bad & set(calls), bad & set(calls)
    daemons = find(load(DEPLOY / "seccomp/daemonset.yaml"), "DaemonSet", "roadtrip-seccomp")
    (folder,) = [volume["hostPath"]["path"] for volume in pod(daemons)["volumes"] if "hostPath" in volume]
    _, container = api(render(DEPLOY / "overlays/io-uring"))
    wanted = container["securityContext"]["seccompProfile"]["localhostProfile"]
    assert f"/var/lib/kubelet/seccomp/{wanted}" == f"{folder}/roadtrip-io-uring.json", wanted
    return f"{len(set(calls))} calls"


def run(names, binary):
    """Runs every check among `names`; gives the exit code."""
    failed = 0
    checks = [(name, check) for name, check in names.items() if name.startswith("check_")]
    for name, check in checks:
        try:
            note = check(binary)
            print(f"ok      {name.removeprefix('check_').replace('_', ' ')}{f': {note}' if note else ''}")
        except Exception as error:  # A check that breaks down has not passed.
            failed += 1
            what = str(error) if isinstance(error, AssertionError) else repr(error)
            print(f"FAILED  {name.removeprefix('check_').replace('_', ' ')}: {what}")
    print(f"tests/deploy: {len(checks) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    sys.exit(run(globals(), *sys.argv[1:]))
