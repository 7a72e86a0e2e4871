"""Holds the bill of materials of an image's tree against the binary beside it. tests/deploy/image.sh calls it.

    sbom.py TREE

The documents must be CycloneDX by its schema, and name the very crates that are in the binary (cargo-auditable's list),
each with its licence and the checksum of Cargo.lock.
"""

import json
import re
import subprocess
import sys
import tempfile
import tomllib
import zlib
from pathlib import Path

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

ROOT = Path(__file__).resolve().parents[2]


def crates_of_binary(path):
    """Name and version -> kind ("runtime" or "build") from the section that cargo-auditable has added."""
    with tempfile.NamedTemporaryFile() as out:
        subprocess.run(["objcopy", "-O", "binary", "--only-section=.dep-v0", "--set-section-flags=.dep-v0=alloc", path, out.name], check=True)
        packages = json.loads(zlib.decompress(Path(out.name).read_bytes()))["packages"]
    return {(each["name"], each["version"]): each.get("kind", "runtime") for each in packages}


def main():
    (tree,) = map(Path, sys.argv[1:])
    documents = {}
    for name in ("roadtrip-api.cdx.json", "system.cdx.json"):
        text = (tree / "usr/share/sbom" / name).read_text()
        assert str(ROOT) not in text, f"{name}: a path of the build is in it"
        error = JsonStrictValidator(SchemaVersion.V1_5).validate_str(text)
        assert error is None, f"{name}: {error}"
        documents[name] = json.loads(text)

    binary = crates_of_binary(tree / "roadtrip-api")
    listed = {(each["name"], each["version"]): each for each in documents["roadtrip-api.cdx.json"]["components"]}
    inside = {crate for crate, kind in binary.items() if kind == "runtime"} - {("roadtrip-api", "0.1.0")}
    assert len(inside) > 100, f"only {len(inside)} crates in the binary"
    assert not inside - listed.keys(), f"in the binary and not in the SBOM: {sorted(inside - listed.keys())}"
    # Procedural macros and what they are made of run in the compiler and leave only what they write.
    assert not listed.keys() - binary.keys(), f"in the SBOM and not known to the build: {sorted(listed.keys() - binary.keys())}"

    locked = tomllib.loads((ROOT / "Cargo.lock").read_text())["package"]
    checksums = {(each["name"], each["version"]): each.get("checksum") for each in locked}
    for crate, component in listed.items():
        assert component.get("licenses"), f"{crate}: no licence"
        assert component["hashes"] == [{"alg": "SHA-256", "content": checksums[crate]}], crate
        assert re.fullmatch(r"pkg:cargo/[\w-]+@[\w.+%-]+", component["purl"]), component["purl"]
    system = {each["name"] for each in documents["system.cdx.json"]["components"]}
    assert {"rust-std", "ca-certificates"} <= system and any(name.startswith("libc6") for name in system), system
    print(f"ok      SBOM: {len(inside)} crates as in the binary, {len(listed)} with what its macros are made of, {len(system)} parts of the system")


if __name__ == "__main__":
    try:
        main()
    except AssertionError as error:
        sys.exit(f"FAILED  SBOM: {error}")
