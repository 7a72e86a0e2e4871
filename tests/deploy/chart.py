"""Renders the Helm chart with Helm itself (its Go code, as a library) and compares it with the manifests. tests/deploy/run
calls it.

    chart.py BINARY

The chart's defaults must give the plain manifest, and each file of values/ the overlay of that name, field by field.
"""

import subprocess
import sys
import warnings
from pathlib import Path

import helm_python as helm
import kubernetes_validate
import yaml

from manifests import FOREIGN, ROOT, VERSIONS, api, environment, ordered
from render import load, name_of, render

CHART = ROOT / "deploy/helm/roadtrip-api"
NAMESPACE = "stories"


def objects(values):
    with helm.Chart.load(CHART) as chart:
        chart.validate_schema(values)
        texts = chart.render(values, name="roadtrip", namespace=NAMESPACE)
    found = {}
    for path, text in texts.items():
        if path.endswith(".txt"):
            assert "{{" not in text and values.get("secretName", "roadtrip-secrets") in text, path
            continue
        for thing in yaml.safe_load_all(text):
            if thing:
                assert name_of(thing) not in found, name_of(thing)
                found[name_of(thing)] = thing
    return found


def of_overlay(things):
    """KEDA's queries know their namespace in the chart, where a kustomization cannot."""
    for thing in things:
        if thing["kind"] == "ScaledObject":
            for trigger in thing["spec"]["triggers"]:
                if query := trigger["metadata"].get("query"):
                    trigger["metadata"]["query"] = query.replace("{pod=", f'{{namespace="{NAMESPACE}",pod=')
    return {name_of(thing): thing for thing in things}


def same(what, ours, theirs):
    assert ours.keys() == theirs.keys(), f"{what}: {sorted(ours.keys() ^ theirs.keys())}"
    for name, thing in ours.items():
        assert ordered(thing) == ordered(theirs[name]), f"{what}: {name}: {first_difference(ordered(thing), ordered(theirs[name]))}"


def first_difference(a, b, at=""):
    if isinstance(a, dict) and isinstance(b, dict):
        for key in sorted(a.keys() | b.keys()):
            if a.get(key) != b.get(key):
                return first_difference(a.get(key), b.get(key), f"{at}.{key}")
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        for i, (left, right) in enumerate(zip(a, b)):
            if left != right:
                return first_difference(left, right, f"{at}[{i}]")
    return f"{at}: {a!r} against {b!r}"


def check_nothing_has_drifted(_binary):
    out = subprocess.run([sys.executable, ROOT / "deploy/helm/generate.py", "--check"], capture_output=True, text=True)
    assert out.returncode == 0, out.stderr
    (about,) = load(CHART / "Chart.yaml")
    _, container = api(load(ROOT / "deploy/k8s/roadtrip-deployment.yaml"))
    assert container["image"].endswith(":" + about["appVersion"]), about["appVersion"]


def check_it_gives_the_manifests(_binary):
    same("defaults", objects({}), of_overlay(load(ROOT / "deploy/k8s/roadtrip-deployment.yaml")))
    for path in sorted(CHART.glob("values/*.yaml")):
        (values,) = load(path)
        same(path.name, objects(values), of_overlay(render(ROOT / "deploy/overlays" / path.stem)))
    names = {path.parent.name for path in ROOT.glob("deploy/overlays/*/kustomization.yaml")}
    missing = names - {path.stem for path in CHART.glob("values/*.yaml")} - {"dev"}
    assert not missing, f"no values for the overlays {missing}"
    return f"Helm {helm.helm_sdk_version()}, defaults and {len(names) - 1} overlays"


EVERYTHING = {
    "image": {"repository": "registry.example/stories", "digest": "sha256:" + "0" * 64, "pullPolicy": "Always"},
    "imagePullSecrets": [{"name": "pull"}],
    "secretName": "other",
    "env": {"PIN": "never", "LOG_LEVEL": None, "RATE_LIMIT_ENABLED": "true"},
    "extraEnv": [{"name": "ADMIN_TOKEN", "valueFrom": {"secretKeyRef": {"name": "other", "key": "token"}}}],
    "terminationGracePeriodSeconds": 90,
    "podLabels": {"team": "stories"},
    "podAnnotations": {"a/b": "c"},
    "nodeSelector": {"kubernetes.io/arch": "arm64"},
    "tolerations": [{"operator": "Exists"}],
    "priorityClassName": "high",
    "serviceAccount": {"annotations": {"iam.gke.io/gcp-service-account": "a@b"}},
    "service": {"affinitySeconds": 60},
    "autoscaling": {"by": "adapter", "minReplicas": 2, "maxReplicas": 7},
    "podDisruptionBudget": {"maxUnavailable": 1},
    "networkPolicy": {"extraEgress": [{"ports": [{"port": 5433, "protocol": "TCP"}]}]},
    "podMonitor": {"enabled": True},
}


def check_every_value_reaches_its_place(binary):
    made = objects(EVERYTHING)
    for thing in made.values():
        if thing["kind"] not in FOREIGN:
            for version in VERSIONS:
                kubernetes_validate.validate(thing, version, strict=True)
    deployment, container = api(made.values())
    spec = deployment["spec"]["template"]["spec"]
    has = environment(container)
    assert has["PODS_MAX"] == "9", "7 pods and a quarter, rounded up"
    assert has["TERMINATION_GRACE"] == "90s" and spec["terminationGracePeriodSeconds"] == 90
    assert "LOG_LEVEL" not in has and has["PIN"] == "never" and has["DRAIN_DELAY"] == "10s"
    assert container["env"][-1] == EVERYTHING["extraEnv"][0]
    assert len(container["env"]) == len(has), "a variable is there twice"
    for each in (container, spec["initContainers"][0]):
        assert each["image"] == "registry.example/stories@sha256:" + "0" * 64 and each["imagePullPolicy"] == "Always"
        assert {e["valueFrom"]["secretKeyRef"]["name"] for e in each["env"] if "valueFrom" in e} == {"other"}
    for key in ("imagePullSecrets", "nodeSelector", "tolerations", "priorityClassName"):
        assert spec[key] == EVERYTHING[key], key
    metadata = deployment["spec"]["template"]["metadata"]
    assert metadata["labels"]["team"] == "stories" and metadata["annotations"]["a/b"] == "c"
    assert made["ServiceAccount", "roadtrip-api"]["metadata"]["annotations"] == EVERYTHING["serviceAccount"]["annotations"]
    assert made["Service", "roadtrip-api"]["spec"]["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"] == 60
    hpa = made["HorizontalPodAutoscaler", "roadtrip-api-hpa"]["spec"]
    assert (hpa["minReplicas"], hpa["maxReplicas"], len(hpa["metrics"])) == (2, 7, 3)
    assert made["PodDisruptionBudget", "roadtrip-api"]["spec"]["maxUnavailable"] == 1
    assert made["NetworkPolicy", "roadtrip-api"]["spec"]["egress"][-1] == EVERYTHING["networkPolicy"]["extraEgress"][0]
    known = subprocess.run([binary, "help", "serve"], capture_output=True, check=True, text=True).stdout
    for path in CHART.glob("values/*.yaml"):
        for name in load(path)[0].get("env", {}):
            assert f"\n  {name} " in known, f"{path.name}: {name}"
    assert ("NetworkPolicy", "roadtrip-api") not in objects({"networkPolicy": {"enabled": False}})
    plain = objects({"service": {"sessionAffinity": "None"}})["Service", "roadtrip-api"]["spec"]
    assert plain["sessionAffinity"] == "None" and "sessionAffinityConfig" not in plain, "the API server would refuse it"


WRONG = [
    {"replicas": 3},
    {"image": {"tagg": "v2"}},
    {"image": {"digest": "sha256:12"}},
    {"image": {"pullPolicy": "Sometimes"}},
    {"env": {"PORT": "9000"}},
    {"env": {"DATABASE_URL": "postgresql://user:secret@host/db"}},
    {"env": {"lower": "x"}},
    # Helm would write 6.7108864e+07.
    {"env": {"CACHE_BYTES": 67108864}},
    {"resources": {"limits": {"cpu": "two"}}},
    {"seccompProfile": {"type": "Unconfined"}},
    {"seccompProfile": {"type": "Localhost"}},
    {"autoscaling": {"by": "magic"}},
    {"autoscaling": {"minReplicas": "4"}},
    {"podDisruptionBudget": {"maxUnavailable": "100%"}},
    {"terminationGracePeriodSeconds": "60s"},
    # What the chart has itself would stand there twice, and win or lose by its place.
    {"podLabels": {"app": "other"}},
    {"podLabels": {"team": 3}},
    {"podAnnotations": {"prometheus.io/scrape": "false"}},
    {"extraEnv": [{"name": "DATABASE_URL", "value": "postgresql://user:secret@host/db"}]},
]


def check_what_is_wrong_is_refused(_binary):
    for values in WRONG:
        try:
            objects(values)
        except helm.HelmError as error:
            assert "schema" in str(error).lower() or "at '" in str(error), f"{values}: {error}"
        else:
            raise AssertionError(f"taken: {values}")
    return f"{len(WRONG)} values"


def check_helm_lints_it(_binary):
    for values in [{}, EVERYTHING, *(load(path)[0] for path in sorted(CHART.glob("values/*.yaml")))]:
        found = helm.lint(CHART, values, strict=True, namespace=NAMESPACE)
        # An icon is for catalogues.
        rest = [message for message in found.get("messages") or [] if "icon" not in str(message)]
        assert not rest, rest


if __name__ == "__main__":
    from manifests import run

    warnings.simplefilter("ignore")
    sys.exit(run(globals(), sys.argv[1]))
