"""Checks what deploy/ has beside Kubernetes' objects by the formats' own definitions: docker-compose.yml by Compose's
specification, the dashboard by Grafana's types, the alerts by what the runbooks say of them. tests/deploy/run calls it.

    formats.py BINARY
"""

import json
import re
import subprocess
import sys

import compose_spec
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from manifests import DEPLOY, ROOT, commands, run, seconds, variables, winding_up
from render import load, name_of


def lost(before, after, at=""):
    """Where `after` lacks something of `before`."""
    if isinstance(before, dict) and isinstance(after, dict):
        return [each for key in before for each in ([f"{at}.{key}"] if key not in after else lost(before[key], after[key], f"{at}.{key}"))]
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        return [each for i, (one, other) in enumerate(zip(before, after)) for each in lost(one, other, f"{at}[{i}]")]
    return [] if before == after else [at]


def check_dashboard_by_grafanas_own_types(_binary):
    text = json.loads((DEPLOY / "monitoring/grafana/dashboards/roadtrip-scaling-v1.json").read_text())
    assert text["uid"] == "roadtrip-scaling-v1", "the guide's id"
    # What a type does not know is lost on the way; `definition` is what Grafana itself writes beside a variable's query.
    back = json.loads(JSONEncoder(sort_keys=True).encode(Dashboard.from_json(text)))
    unknown = [each for each in lost(text, back) if not re.fullmatch(r"\.templating\.list\[\d+\]\.definition", each)]
    assert not unknown, unknown
    titles = {panel["title"]: panel for panel in text["panels"]}
    for wanted in ("Request rate by pod", "Response time percentiles", "CPU by pod", "Memory by pod", "Worker health matrix", "Scaling events"):
        assert wanted in titles, f"the guide's panel {wanted} is missing"
    steps = titles["Worker health matrix"]["fieldConfig"]["defaults"]["thresholds"]["steps"]
    assert [step["color"] for step in steps] == ["red", "green"], "a worker that is not healthy looks like one that is"
    for panel in text["panels"]:
        assert panel["type"] in ("timeseries", "state-timeline"), f"{panel['title']}: Grafana has no panel {panel['type']}"
        marks = [target["refId"] for target in panel["targets"]]
        assert len(marks) == len(set(marks)), f"{panel['title']}: {marks}"
    places = [(p["gridPos"]["x"] + x, p["gridPos"]["y"] + y) for p in text["panels"] for x in range(p["gridPos"]["w"]) for y in range(p["gridPos"]["h"])]
    assert len(places) == len(set(places)) and max(x for x, _ in places) < 24, "panels overlap or stand out"
    return f"{len(titles)} panels"


def check_compose(binary):
    text = (ROOT / "docker-compose.yml").read_text()
    compose_spec.PyCompose.from_yaml(text).validate()
    # It refuses what Compose does not know.
    for wrong in ("    read_onli: true\n", "    restart: sometimes\n"):
        try:
            compose_spec.PyCompose.from_yaml(text.replace("    read_only: true\n", wrong).replace("    restart: unless-stopped\n", ""))
        except Exception:
            continue
        raise AssertionError(f"the specification takes {wrong.strip()}")
    compose = yaml.safe_load(text)
    known = variables(binary)
    unknown = set(compose["services"]["api"]["environment"]) - known.keys()
    assert not unknown, unknown
    needs = sum(seconds(re.search(r"default: (\w+?)( |\])", known[name]).group(1)) for name in ("GRACEFUL_TIMEOUT",)) + winding_up()
    grace = seconds(compose["services"]["api"]["stop_grace_period"])
    assert needs < grace, f"stop_grace_period {grace} s is under {needs} s"
    for name, service in compose["services"].items():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (ROOT / source).exists(), f"{name}: {source}"
            else:
                assert source in compose["volumes"], f"{name}: {source}"
    api = compose["services"]["api"]
    assert api["user"] == "65532:65532" and api["read_only"] is True and api["cap_drop"] == ["ALL"]
    return f"{len(compose['services'])} services"


def check_alerts_lead_somewhere(_binary):
    (rules,) = load(DEPLOY / "monitoring/rules.yml")
    alerts = [rule for group in rules["groups"] for rule in group["rules"] if "alert" in rule]
    for alert in alerts:
        page = (ROOT / alert["annotations"]["runbook"]).read_text()
        assert alert["alert"] in page, f"{alert['annotations']['runbook']} does not say what to do about {alert['alert']}"
    # Metrics that pages name are served; the adapter makes one of its own.
    served = "".join(path.read_text() for path in (ROOT / "src/telemetry/metrics").rglob("*.rs"))
    named = {
        name.removesuffix("_")
        for page in sorted(DEPLOY.glob("runbooks/*.md"))
        for name in re.findall(r"\b(?:cache|database|executor|http|memory|overload|redis|worker)_[a-z_]+\b", page.read_text())
    } - {"worker_id", "cache_bytes", "http_requests_per_second"}
    missing = {name for name in named if f'"{re.sub("_(sum|count|bucket)$", "", name)}' not in served}
    assert not missing, f"the runbooks name metrics that are not served: {missing}"
    return f"{len(alerts)} alerts, {len(named)} metrics"


def check_the_rules_become_the_operators_object(_binary):
    (command,) = [line for line in commands(DEPLOY / "README.md") if "PrometheusRule" in line]
    made, _, rest = command.rpartition(" | ")
    assert rest == "kubectl apply -f -", rest
    out = subprocess.run(["bash", "-euc", made], cwd=ROOT, capture_output=True, check=True, text=True)
    thing = yaml.safe_load(out.stdout)
    assert name_of(thing) == ("PrometheusRule", "roadtrip-api") and thing["apiVersion"] == "monitoring.coreos.com/v1"
    (rules,) = load(DEPLOY / "monitoring/rules.yml")
    assert thing["spec"] == rules, "the command of the README loses something of the rules"


if __name__ == "__main__":
    sys.exit(run(globals(), sys.argv[1]))
