"""Renders a Kustomize folder without kubectl: the part of Kustomize that deploy/ uses, and an error for any other.

Where a kubectl of 1.27 or later is at hand, manifests.py renders every overlay with both and compares, so this cannot
drift from the real one unseen.
"""

import base64
import copy
from pathlib import Path

import yaml

KNOWN = {"apiVersion", "kind", "resources", "components", "patches", "images", "secretGenerator"}
# Lists that a strategic merge joins by a key; others are replaced.
MERGE_KEYS = {
    "containers": "name",
    "initContainers": "name",
    "env": "name",
    "volumes": "name",
    "volumeMounts": "mountPath",
    "ports": "containerPort",
}


def load(path):
    """Every document of a YAML file."""
    return [document for document in yaml.safe_load_all(Path(path).read_text()) if document]


def name_of(thing):
    """Kind and name: what a patch finds its object by."""
    return thing["kind"], thing["metadata"]["name"]


def merge(into, patch):
    """A strategic merge of `patch` into `into`, which it changes."""
    for key, value in patch.items():
        present = into.get(key)
        if value is None:
            into.pop(key, None)
        elif isinstance(value, dict) and isinstance(present, dict):
            merge(present, value)
        elif isinstance(value, list) and isinstance(present, list) and key in MERGE_KEYS:
            into[key] = merge_list(present, value, MERGE_KEYS[key])
        else:
            into[key] = copy.deepcopy(value)


def merge_list(present, patch, key):
    added = []
    for item in patch:
        mate = next((other for other in present if other.get(key) == item[key]), None)
        if mate is None:
            added.append(copy.deepcopy(item))
        else:
            merge(mate, item)
    # Kustomize puts what is new in front.
    return added + present


def render(folder):
    """The objects of a folder with a kustomization.yaml, in no particular order."""
    folder = Path(folder)
    (kustomization,) = load(folder / "kustomization.yaml")
    if unknown := set(kustomization) - KNOWN:
        raise ValueError(f"{folder}: {sorted(unknown)} is not known to this renderer")
    objects = []
    for resource in kustomization.get("resources", []):
        path = folder / resource
        objects += render(path) if path.is_dir() else load(path)
    for component in kustomization.get("components", []):
        objects += render(folder / component)
    for generator in kustomization.get("secretGenerator", []):
        literals = (literal.split("=", 1) for literal in generator["literals"])
        objects.append(
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "type": "Opaque",
                "metadata": {"name": generator["name"]},
                "data": {key: base64.b64encode(value.encode()).decode() for key, value in literals},
            }
        )
    for entry in kustomization.get("patches", []):
        patches = load(folder / entry["path"]) if "path" in entry else list(yaml.safe_load_all(entry["patch"]))
        for patch in patches:
            mates = [thing for thing in objects if name_of(thing) == name_of(patch)]
            if len(mates) != 1:
                raise ValueError(f"{folder}: the patch of {name_of(patch)} meets {len(mates)} objects")
            if patch.get("$patch") == "delete":
                objects.remove(mates[0])
            else:
                merge(mates[0], patch)
    for image in kustomization.get("images", []):
        for thing in objects:
            for container in containers(thing):
                if container["image"].rsplit(":", 1)[0] == image["name"]:
                    container["image"] = f"{image['newName']}:{image['newTag']}"
    return objects


def pod(thing):
    """The pod template's spec of an object; None where it has none."""
    return thing.get("spec", {}).get("template", {}).get("spec") if thing["kind"] != "ScaledObject" else None


def containers(thing):
    """Every container of an object's pods, those that run first too."""
    spec = pod(thing) or {}
    return spec.get("initContainers", []) + spec.get("containers", [])
