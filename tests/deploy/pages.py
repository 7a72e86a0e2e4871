"""Has the real programs read every command that the pages and the comments of deploy/ tell people to type. tests/deploy/run
calls it.

    pages.py FOLDER

FOLDER has roadtrip-api, roadtrip-bench and roadtrip-tuning. A command is given to its program with --help put behind its
arguments: the program reads them in order, refuses what it does not know or cannot read as a value, and else prints a page
and does nothing. So commands of kubectl and docker are read, too, where those are at hand; `kubectl set` and `patch` are
carried out on the manifest (--local).
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

from manifests import DEPLOY, FILE, ROOT, api, find
from render import load

OURS = {"roadtrip-api", "roadtrip-bench", "roadtrip-tuning"}
THEIRS = {"kubectl", "docker"}
# Options whose value is a command itself.
NESTED = {"--a-cmd", "--b-cmd", "--server-cmd"}
# What a pod of such an image runs when it is only given arguments.
ENTRYPOINTS = {"roadtrip-api": "roadtrip-api", "roadtrip-bench": "roadtrip-bench"}


def pages():
    """Every page for people, and every file of deploy/ whose comments may have commands."""
    for pattern in ("*.md", "deploy/**/*.md", "bench/**/*.md", "tuning/**/*.md"):
        yield from sorted(ROOT.glob(pattern))
    yield from sorted(DEPLOY.glob("**/*.yaml"))
    yield from [ROOT / "Dockerfile", ROOT / "docker-compose.yml"]


def lines(page):
    """Each line of code of a page: fenced, indented, in a comment, or a span that begins with a program's name."""
    text = page.read_text().replace("\\\n", " ")
    if page.suffix != ".md":
        # Code in a comment stands deeper than its sentences.
        text = re.sub(r"\s*\\\n#\s+", " ", page.read_text())
        yield from (match for match in re.findall(r"^# {2,}(\S.*)$", text, re.M))
        return
    for block in re.findall(r"^```\w*\n(.*?)^```", text, re.S | re.M):
        yield from block.splitlines()
    rest = re.sub(r"^```.*?^```", "", text, flags=re.S | re.M)
    yield from re.findall(r"^    (\S.*)$", rest, re.M)
    for span in re.findall(r"`([^`\n]+(?:\n[^`\n]+)?)`", rest):
        if re.match(r"(?:\S*/)?(?:%s) \S" % "|".join(OURS | THEIRS), span):
            yield " ".join(span.split())


def simple_commands(line):
    """The words of each command of a line, without what stands before it (settings, env) or takes its output."""
    line = re.sub(r"<([a-z-]+)>", "NAME", line)
    try:
        lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|()<>")
        lexer.whitespace_split = True
        words = list(lexer)
    except ValueError:  # Prose with an apostrophe.
        return
    command = []
    for word in [*words, ";"]:
        if word and set(word) <= set(";&|()<>"):
            while command and (command[0] == "env" or re.match(r"[A-Z_]+=", command[0])):
                command.pop(0)
            if command:
                yield command
            command = []
        else:
            command.append(word)


def found(line):
    """(program, arguments) of each command that is looked at, those within others too."""
    for command in simple_commands(line):
        program, arguments = Path(command[0]).name, command[1:]
        # What builds for several architectures is a plugin, which is seldom at hand.
        if program not in OURS | THEIRS or arguments[:1] == ["buildx"]:
            continue
        yield program, arguments
        for option, value in zip(arguments, arguments[1:]):
            if option in NESTED:
                yield from found(value)
        if "--" in arguments and program in THEIRS | {"roadtrip-bench"}:
            inner = arguments[arguments.index("--") + 1 :]
            image = next((re.search(r"/([\w-]+)(?::|$)", word) for word in arguments if word.startswith("--image=")), None)
            if image and image.group(1) in ENTRYPOINTS:
                yield ENTRYPOINTS[image.group(1)], inner
            else:
                yield from found(shlex.join(inner))


def read_by(binary, arguments):
    """What the program says against the arguments; None where it takes them."""
    # A variable of the shell stands for an address or a body: an address is both.
    arguments = [re.sub(r"\$\w+|\$\([^)]*\)", "http://127.0.0.1:1/", word) for word in arguments]
    # Docker looks whether a name of an image can be one.
    arguments = [word.replace("PROJECT_ID", "project-id") for word in arguments]
    end = arguments.index("--") if "--" in arguments else len(arguments)
    asking = [] if arguments[:1] == ["help"] else ["--help"]
    # Docker's builder of old knows the options of these pages, and is in the client itself.
    settings = {**os.environ, "DOCKER_BUILDKIT": "0"}
    out = subprocess.run([binary, *arguments[:end], *asking], capture_output=True, text=True, timeout=60, env=settings)
    return None if out.returncode == 0 else (out.stderr or out.stdout).strip().splitlines()[0]


def every(programs):
    for page in pages():
        for line in lines(page):
            for program, arguments in found(line):
                if program in programs:
                    yield f"{page.relative_to(ROOT)}: {program} {shlex.join(arguments)}", program, arguments


def check_our_programs_take_what_the_pages_say(folder):
    seen = {}
    for what, program, arguments in every(OURS):
        error = read_by(Path(folder) / program, arguments)
        assert error is None, f"{what}: {error}"
        seen[program] = seen.get(program, 0) + 1
    assert seen.get("roadtrip-bench", 0) >= 8 and seen.get("roadtrip-api", 0) >= 10, seen
    return ", ".join(f"{count} of {name}" for name, count in sorted(seen.items()))


def check_a_wrong_command_would_be_seen(folder):
    wrong = [
        "roadtrip-bench load --url http://a/ --rat 3",
        "roadtrip-bench load --url http://a/ --rate many",
        "roadtrip-bench cost --a-url http://a/ --b-cmd 'roadtrip-bench flor' --b-url http://b/",
        "kubectl run x --image=gcr.io/P/roadtrip-bench:v1 -- load --speed 3",
        "kubectl exec deploy/roadtrip-api -- /roadtrip-api migrate sideways",
        "echo a && PORT=1 target/max/roadtrip-api serve --fast",
        "roadtrip-tuning plann",
    ]
    for line in wrong:
        errors = [read_by(Path(folder) / program, arguments) for program, arguments in found(line) if program in OURS]
        assert any(errors), line


def check_kubectl_and_docker_take_what_the_pages_say(_folder):
    at_hand = {program for program in THEIRS if shutil.which(program)}
    seen = 0
    for what, program, arguments in every(at_hand):
        error = read_by(program, arguments)
        assert error is None, f"{what}: {error}"
        seen += 1
    return f"{seen} commands, {', '.join(sorted(at_hand)) or 'neither is on this machine'}"


def check_kubectl_carries_out_the_changes(_folder):
    if not shutil.which("kubectl"):
        return "no kubectl on this machine"
    objects = [*load(FILE), *load(DEPLOY / "overlays/keda/scaledobject.yaml")]
    names = {
        "deployment/roadtrip-api": "Deployment", "hpa roadtrip-api-hpa": "HorizontalPodAutoscaler", "service roadtrip-api": "Service",
        "scaledobject roadtrip-api": "ScaledObject",
    }
    done = 0
    for what, _, arguments in every({"kubectl"}):
        line = shlex.join(arguments)
        if not re.match(r"set (image|env) |patch ", line):
            continue
        (target,) = [name for name in names if name in line]
        kind = names[target]
        (before,) = [thing for thing in objects if thing["kind"] == kind]
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            yaml.safe_dump(before, file)
            file.flush()
            changed = [word for word in arguments if word not in target.split()]
            out = subprocess.run(
                ["kubectl", *changed, "--local", "-f", file.name, "-o", "yaml"], capture_output=True, text=True
            )
        assert out.returncode == 0, f"{what}: {out.stderr}"
        after = find([yaml.safe_load(out.stdout)], kind, before["metadata"]["name"])
        assert after["spec"] != before["spec"], f"{what}: changes nothing"
        if line.startswith("set image"):
            spec = after["spec"]["template"]["spec"]
            images = {c["image"] for c in spec["containers"] + spec["initContainers"]}
            assert len(images) == 1, f"{what}: the migration would be of another version than the server"
        if "RATE_LIMIT_ENABLED=true" in line and not any(e["name"] == "TRUSTED_PROXIES" for e in api(objects)[1]["env"]):
            # All that comes through an ingress would be one client, with one client's rate over all pods.
            (has,) = [c["env"] for c in after["spec"]["template"]["spec"]["containers"]]
            assert {"name": "RATE_LIMIT_CLIENT", "value": "off"} in has, f"{what}: who is limited where no proxy is trusted?"
        done += 1
    assert done >= 4, done
    return f"{done} commands"


def instructions():
    """The Dockerfile's instructions: (word, rest), comments out and lines joined."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.M).replace("\\\n", " ")
    return [(word, " ".join(rest.split())) for word, _, rest in (line.partition(" ") for line in text.splitlines() if line.strip())]


def check_the_dockerfile_does_what_is_tested(folder):
    """image.sh builds and runs a tree without an engine; so all that the Dockerfile does must be in deploy/image/build."""
    found = instructions()
    steps = [each for word, rest in found if word == "RUN" for each in rest.split(" && ")]
    tested = re.findall(r"^(?:deploy/image/build) (\w+)", (ROOT / "tests/deploy/image.sh").read_text(), re.M)
    assert [step.split()[1] for step in steps] == ["tools", "dependencies", "binary", "tree", "bench"], steps
    assert all(step.startswith("deploy/image/build ") for step in steps), steps
    assert tested == ["tools", "binary", "tree"], tested
    last = found[max(i for i, (word, _) in enumerate(found) if word == "FROM") :]
    assert last[0] == ("FROM", "scratch"), last[0]
    image = dict(last)
    assert image["COPY"] == "--from=build /tree /"
    assert image["USER"] == "65532:65532" and image["STOPSIGNAL"] == "SIGTERM"
    (_, container) = api(load(FILE))
    assert int(image["EXPOSE"]) == container["ports"][0]["containerPort"]
    health = json.loads(image["HEALTHCHECK"].split("CMD ")[1])
    entry = json.loads(image["ENTRYPOINT"])
    assert health[0] == entry[0] == "/roadtrip-api"
    for arguments in (health[1:], json.loads(image["CMD"]), container["args"]):
        assert read_by(Path(folder) / "roadtrip-api", arguments) is None, arguments
    # What is copied in is let in, and there.
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    wanted = [each for word, rest in found if word == "COPY" and "--from" not in rest for each in rest.split()[:-1] if each != "."]
    for each in [*allowed, *wanted]:
        assert (ROOT / each).exists(), each
    for each in wanted:
        assert any(each == one or each.startswith(one + "/") for one in allowed), f".dockerignore keeps {each} out"
    base = re.match(r"rust:(\d+)\.(\d+)", found[0][1])
    oldest = re.search(r'^rust-version = "(\d+)\.(\d+)', (ROOT / "Cargo.toml").read_text(), re.M)
    assert tuple(map(int, base.groups())) >= tuple(map(int, oldest.groups())), "the image's Rust is too old"


if __name__ == "__main__":
    from manifests import run

    sys.exit(run(globals(), sys.argv[1]))
