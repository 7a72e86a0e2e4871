"""Writes the Helm chart's templates and values from the manifests, so that there is no second source of any object:

    generate.py            writes roadtrip-api/templates and roadtrip-api/values.yaml
    generate.py --check    writes nothing, and ends with 1 where a file is not what would be written

A template is the manifest's own text, comments and all, with some places replaced by values; each replacement must meet as
many places as it says, so a manifest that changes under it is an error and not a chart that silently lacks something. The
chart's defaults are the manifest's; tests/deploy/chart.py renders it with Helm and compares with the manifest and the
overlays. Needs PyYAML. Chart.yaml, values.schema.json, NOTES.txt and values/ are written by hand.
"""

import sys
import textwrap
from pathlib import Path

import yaml

HERE = Path(__file__).resolve().parent
DEPLOY = HERE.parent
CHART = HERE / "roadtrip-api"
NOTE = "{{- /* Made by ../../generate.py from %s: change that, not this. */ -}}\n"

# The settings that the chart works out itself, and those that come from the secret.
OWN = ["PORT", "DATABASE_URL", "REDIS_URL", "TERMINATION_GRACE", "PODS_MAX"]

IMAGE = (
    "gcr.io/PROJECT_ID/roadtrip-api:v1.0.0",
    '{{ .Values.image.repository }}{{ with .Values.image.digest }}@{{ . }}{{ else }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{ end }}',
)


def replace(text, old, new, times=1):
    """`text` with `old` replaced, which must stand there so many times."""
    met = text.count(old)
    if met != times:
        sys.exit(f"generate.py: met {met} times in place of {times}: {old!r}")
    return text.replace(old, new)


def block(text, first, indent):
    """The lines from the one that begins with `first` on, as long as they are indented deeper than it, and it with them."""
    lines = text.splitlines(keepends=True)
    (start,) = [i for i, line in enumerate(lines) if line.startswith(" " * indent + first)]
    end = start + 1
    while end < len(lines) and (not lines[end].strip() or len(lines[end]) - len(lines[end].lstrip()) > indent):
        end += 1
    return "".join(lines[start:end])


def values_block(path, indent):
    return f"{{{{- toYaml .Values.{path} | nindent {indent} }}}}\n"


def optional(key, path, indent):
    """A field that is there where its value is."""
    return f"{' ' * indent}{{{{- with .Values.{path} }}}}\n{' ' * indent}{key}: {{{{- toYaml . | nindent {indent + 2} }}}}\n{' ' * indent}{{{{- end }}}}\n"


def deployment(text):
    text = replace(text, *IMAGE, times=2)
    text = replace(text, "imagePullPolicy: IfNotPresent", "imagePullPolicy: {{ .Values.image.pullPolicy }}", 2)
    text = replace(text, "name: roadtrip-secrets", "name: {{ .Values.secretName }}", 3)
    text = replace(
        text,
        "        app.kubernetes.io/part-of: roadtrip\n      annotations:\n",
        "        app.kubernetes.io/part-of: roadtrip\n"
        "        {{- with .Values.podLabels }}\n        {{- toYaml . | nindent 8 }}\n        {{- end }}\n"
        "      annotations:\n"
        "        {{- with .Values.podAnnotations }}\n        {{- toYaml . | nindent 8 }}\n        {{- end }}\n",
    )
    text = replace(
        text, "terminationGracePeriodSeconds: 60\n", "terminationGracePeriodSeconds: {{ .Values.terminationGracePeriodSeconds }}\n"
    )
    text = replace(
        text,
        "      initContainers:\n",
        optional("imagePullSecrets", "imagePullSecrets", 6)
        + optional("nodeSelector", "nodeSelector", 6)
        + optional("tolerations", "tolerations", 6)
        + "      {{- with .Values.priorityClassName }}\n      priorityClassName: {{ . }}\n      {{- end }}\n"
        + "      initContainers:\n",
    )
    head, init, main = split(text, "      initContainers:\n", "      containers:\n")
    init = replace(init, "value: production", "value: {{ .Values.env.ENVIRONMENT | quote }}")
    init = replace(init, block(init, "resources:", 10), "          resources: " + values_block("migrate.resources", 12))
    env = block(main, "env:", 10)
    secrets = env[env.index("            - name: DATABASE_URL") : env.index("            # WORKERS is not set")]
    main = replace(
        main,
        env,
        '          env:\n            - name: PORT\n              value: "8080"\n'
        + secrets
        + "            {{- range $name, $value := .Values.env }}\n"
        "            - name: {{ $name }}\n              value: {{ $value | quote }}\n            {{- end }}\n"
        "            # The server compares the two with what it is set to, and with max_connections.\n"
        "            - name: TERMINATION_GRACE\n"
        "              value: {{ printf \"%vs\" .Values.terminationGracePeriodSeconds }}\n"
        "            # maxReplicas and the 25 % of a rollout.\n"
        "            - name: PODS_MAX\n"
        "              value: {{ div (add (mul (int .Values.autoscaling.maxReplicas) 125) 99) 100 | quote }}\n"
        "            {{- with .Values.extraEnv }}\n            {{- toYaml . | nindent 12 }}\n            {{- end }}\n",
    )
    main = replace(main, block(main, "resources:", 10), "          resources: " + values_block("resources", 12))
    main = replace(
        main,
        "            runAsNonRoot: true\n",
        "            runAsNonRoot: true\n" + optional("seccompProfile", "seccompProfile", 12),
    )
    return head + init + main


def split(text, *marks):
    """`text` cut before each mark, which must stand there once."""
    pieces = []
    for mark in marks:
        replace(text, mark, mark)
        before, text = text.split(mark)
        pieces.append(before)
        text = mark + text
    return [*pieces, text]


def scaler(text):
    text = replace(text, "minReplicas: 4", "minReplicas: {{ .Values.autoscaling.minReplicas }}")
    text = replace(text, "maxReplicas: 20", "maxReplicas: {{ .Values.autoscaling.maxReplicas }}")
    text = replace(text, "averageUtilization: 70", "averageUtilization: {{ .Values.autoscaling.cpuPercent }}")
    text = replace(text, block(text, "behavior:", 2), "  behavior: " + values_block("autoscaling.behavior", 4))
    more = (DEPLOY / "overlays/rps-hpa/hpa.yaml").read_text()
    more = more[more.index("    - type: Pods\n") :]
    more = replace(more, '"2100"', "{{ .Values.autoscaling.requestsPerSecond | quote }}")
    more = replace(more, '"140"', "{{ .Values.autoscaling.inFlight | quote }}")
    text = replace(text, "  behavior:", '    {{- if eq .Values.autoscaling.by "adapter" }}\n' + more + "    {{- end }}\n  behavior:")
    return '{{- if ne .Values.autoscaling.by "keda" }}\n' + text + "{{- end }}\n"


def keda(text):
    text = replace(text, "minReplicaCount: 4", "minReplicaCount: {{ .Values.autoscaling.minReplicas }}")
    text = replace(text, "maxReplicaCount: 20", "maxReplicaCount: {{ .Values.autoscaling.maxReplicas }}")
    text = replace(text, "replicas: 10", "replicas: {{ div (add (int .Values.autoscaling.maxReplicas) 1) 2 }}")
    text = replace(text, block(text, "behavior:", 6), "      behavior: " + values_block("autoscaling.behavior", 8))
    text = replace(text, 'value: "70"', "value: {{ .Values.autoscaling.cpuPercent | quote }}")
    text = replace(text, 'threshold: "2100"', "threshold: {{ .Values.autoscaling.requestsPerSecond | quote }}")
    text = replace(text, 'threshold: "140"', "threshold: {{ .Values.autoscaling.inFlight | quote }}")
    text = replace(text, "http://prometheus-operated.monitoring.svc:9090", "{{ .Values.autoscaling.prometheus }}", 2)
    # Here the namespace is known, so that another one's pods of the same name are not counted.
    text = replace(text, '{pod=~"roadtrip-api-.*"', '{namespace="{{ .Release.Namespace }}",pod=~"roadtrip-api-.*"', 2)
    return '{{- if eq .Values.autoscaling.by "keda" }}\n' + text + "{{- end }}\n"


def account(text):
    return replace(text, "# The service never", optional("annotations", "serviceAccount.annotations", 2) + "# The service never")


def service(text):
    text = replace(text, "sessionAffinity: ClientIP\n", "sessionAffinity: {{ .Values.service.sessionAffinity }}\n")
    config = block(text, "sessionAffinityConfig:", 2)
    text = replace(text, config, '  {{- if eq .Values.service.sessionAffinity "ClientIP" }}\n' + config + "  {{- end }}\n")
    return replace(text, "timeoutSeconds: 600", "timeoutSeconds: {{ .Values.service.affinitySeconds }}")


def budget(text):
    return replace(text, "maxUnavailable: 15%", "maxUnavailable: {{ .Values.podDisruptionBudget.maxUnavailable }}")


def network(text):
    text = text.rstrip("\n") + "\n    {{- with .Values.networkPolicy.extraEgress }}\n    {{- toYaml . | nindent 4 }}\n    {{- end }}\n"
    return "{{- if .Values.networkPolicy.enabled }}\n" + text + "{{- end }}\n"


def monitor(text):
    return "{{- if .Values.podMonitor.enabled }}\n" + text + "{{- end }}\n"


TEMPLATES = {
    "ServiceAccount": ("serviceaccount", account),
    "Service": ("service", service),
    "Deployment": ("deployment", deployment),
    "HorizontalPodAutoscaler": ("hpa", scaler),
    "PodDisruptionBudget": ("pdb", budget),
    "NetworkPolicy": ("networkpolicy", network),
}


def files():
    """What belongs into the chart: path -> text."""
    source = DEPLOY / "k8s/roadtrip-deployment.yaml"
    made = {}
    kinds = {}
    for text in source.read_text().split("\n---\n"):
        # What stands over the first object speaks of the whole file.
        text = text[text.index("apiVersion:") :].rstrip("\n") + "\n"
        thing = yaml.safe_load(text)
        name, change = TEMPLATES[thing["kind"]]
        if thing["kind"] in kinds:
            sys.exit(f"generate.py: two objects of kind {thing['kind']}")
        kinds[thing["kind"]] = thing
        made[f"templates/{name}.yaml"] = NOTE % "deploy/k8s/roadtrip-deployment.yaml" + change(text)
    if missing := TEMPLATES.keys() - kinds.keys():
        sys.exit(f"generate.py: no {missing}")
    for path, change in [("overlays/keda/scaledobject.yaml", keda), ("components/podmonitor/podmonitor.yaml", monitor)]:
        made[f"templates/{Path(path).name}"] = NOTE % f"deploy/{path}" + change((DEPLOY / path).read_text())
    made["values.yaml"] = values(kinds)
    return made


def values(kinds):
    spec = kinds["Deployment"]["spec"]["template"]["spec"]
    (server,) = spec["containers"]
    (migrate,) = spec["initContainers"]
    scale = kinds["HorizontalPodAutoscaler"]["spec"]
    repository, tag = server["image"].rsplit(":", 1)

    (secret,) = {entry["valueFrom"]["secretKeyRef"]["name"] for entry in server["env"] if "valueFrom" in entry}

    def dump(thing, indent):
        return "\n" + textwrap.indent(yaml.safe_dump(thing, sort_keys=False), " " * indent).rstrip("\n")

    settings = {entry["name"]: entry["value"] for entry in server["env"] if "value" in entry and entry["name"] not in OWN}
    return f"""\
# Made by ../generate.py from deploy/k8s/roadtrip-deployment.yaml: change that, not this. What each number comes from stands
# there, and in deploy/README.md. The overlays of deploy/ as values: the files of values/.

image:
  repository: {repository}
  # Empty: the chart's appVersion, {tag}.
  tag: ""
  # sha256:..., in place of the tag.
  digest: ""
  pullPolicy: {server["imagePullPolicy"]}
imagePullSecrets: []

# A Secret with the keys database-url and redis-url, made beforehand.
secretName: {secret}

# Settings of the server: any variable of `roadtrip-api help serve`, each a string, but
# {", ".join(OWN[:-1])} and {OWN[-1]}, which the chart sets itself.
env:{dump(settings, 2)}
# Further ones as Kubernetes writes them, for what comes from secrets: [{{name: ..., valueFrom: ...}}]
extraEnv: []

# DRAIN_DELAY + GRACEFUL_TIMEOUT + 8 s must be less; the server checks it at boot.
terminationGracePeriodSeconds: {spec["terminationGracePeriodSeconds"]}

# Without a limit of CPU there is a worker for each CPU of the node: set WORKERS in env then. The alert at 3.5 GB and the table
# of deploy/README.md go by these.
resources:{dump(server["resources"], 2)}
migrate:
  resources:{dump(migrate["resources"], 4)}

# Of the server's container; empty: the runtime's default.
seccompProfile: {{}}

# Beside those that the chart sets itself.
podLabels: {{}}
podAnnotations: {{}}
nodeSelector: {{}}
tolerations: []
priorityClassName: ""

serviceAccount:
  annotations: {{}}

service:
  # None where all requests come through a few proxies that use the Service's address: each would be held to one pod.
  sessionAffinity: {kinds["Service"]["spec"]["sessionAffinity"]}
  affinitySeconds: {kinds["Service"]["spec"]["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"]}

autoscaling:
  # cpu; adapter (requests a second and in flight too, by prometheus-adapter); keda (the same by KEDA).
  by: cpu
  minReplicas: {scale["minReplicas"]}
  maxReplicas: {scale["maxReplicas"]}
  cpuPercent: {scale["metrics"][0]["resource"]["target"]["averageUtilization"]}
  requestsPerSecond: 2100
  inFlight: 140
  # For keda.
  prometheus: http://prometheus-operated.monitoring.svc:9090
  behavior:{dump(scale["behavior"], 4)}

podDisruptionBudget:
  maxUnavailable: {kinds["PodDisruptionBudget"]["spec"]["maxUnavailable"]}

networkPolicy:
  enabled: true
  # Rules beside names, PostgreSQL, PgBouncer and Redis, as Kubernetes writes them.
  extraEgress: []

# For the Prometheus Operator.
podMonitor:
  enabled: false
"""


def main():
    wrong = []
    made = files()
    there = {str(path.relative_to(CHART)) for path in (CHART / "templates").glob("*.yaml")} | {"values.yaml"}
    for path in sorted(made.keys() | there):
        target = CHART / path
        if "--check" in sys.argv[1:]:
            if path not in made or not target.exists() or target.read_text() != made[path]:
                wrong.append(path)
        elif path in made:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(made[path])
    if wrong:
        sys.exit(f"generate.py: not what the manifests give: {', '.join(wrong)}; run it without --check")


if __name__ == "__main__":
    main()
