"""Checks of the documentation: commands exist, parse and start at once, links lead somewhere, the reference is full."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from workspace import Package, packages, read_toml

HELP_STARTS = 4  # a command that imports torch takes twenty times as long as Python with its plainest modules

# Both run in a child, where this workspace's packages are found first. One parses command lines without
# running them and lists the command with all its subcommands; the other asks one of these for its help.
PARSE = """
import argparse, contextlib, importlib, io, json, sys
def verbs(parser, path=()):
    yield path
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, below in action.choices.items():
                yield from verbs(below, (*path, name))
parser, wrong = importlib.import_module(sys.argv[1] + ".cli").parser(), []
for place, words in json.load(sys.stdin):
    output = io.StringIO()
    try:
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
            parser.parse_args(words)
    except (SystemExit, Exception) as error:
        if not isinstance(error, SystemExit) or error.code:
            wrong.append([place, (output.getvalue() or str(error)).strip().splitlines()[-1]])
json.dump([list(verbs(parser)), wrong], sys.stdout)
"""
START = "import argparse, dataclasses, json, pathlib, typing"
HELP = """
import importlib, sys
try:
    sys.exit(importlib.import_module(sys.argv[1] + ".cli").main([*sys.argv[2:], "--help"]))
finally:
    if "torch" in sys.modules:
        sys.exit("imports torch")
"""


def documents(root: Path) -> list[Path]:
    pages = [*root.glob("*.md"), *root.glob("packages/*/*.md"), *root.glob("docs/**/*.md")]
    return sorted(path for path in pages if path.name != "CHANGELOG.md")  # which also tells of what is no more


def shell_commands(text: str) -> Iterator[tuple[int, list[str]]]:
    """(line, words) of each simple command in the fenced shell blocks of a page."""
    language, start, command = None, 0, ""
    for number, line in enumerate(text.splitlines(), 1):
        if fence := re.match(r"\s*(?:```|~~~)(\w*)", line):
            language = None if language is not None else fence[1]
        elif language in ("", "sh", "bash", "shell") or (language == "console" and re.match(r"\s*\$ ", line)):
            start = start if command else number
            command += line.strip().removeprefix("$ ")
            if command.endswith("\\"):
                command = command[:-1] + " "
                continue
            lexer = shlex.shlex(command, posix=True, punctuation_chars=True)
            lexer.whitespace_split = True
            words: list[str] = []
            for word in [*lexer, ";"]:
                if word not in ("&&", "||", "|", ";", "&", "(", ")"):
                    words.append(word)
                elif words:
                    yield start, words
                    words = []
            command = ""


def check_commands(root: Path) -> list[str]:
    """Every `audio-…` line parses, every script that `hatch run` names exists, every --help is fast."""
    environments = read_toml(root / "hatch.toml")["envs"].items()
    scripts = [name if env == "default" else f"{env}:{name}" for env, it in environments for name in it["scripts"]]
    commands = {package.name: package for package in packages(root) if package.has_command}
    shown: dict[str, list[tuple[str, list[str]]]] = {name: [] for name in commands}
    findings = []
    for path in documents(root):
        for line, words in shell_commands(path.read_text(encoding="utf-8")):
            where = f"{path.relative_to(root)}:{line}"
            while len(words) > 1 and re.match(r"\w+=", words[0]):  # variables set for this command
                words = words[1:]
            if Path(words[0]).name == "hatch" and words[1:2] == ["run"]:
                words = words[2:]
                if not words or not (words[0].startswith("audio-") or words[0] in scripts):
                    findings.append(f"{where}: hatch.toml has no such script: {' '.join(words)}")
            if words and words[0].startswith("audio-"):
                end = next((at for at, word in enumerate(words) if word[:1] in ("<", ">")), len(words))
                if words[0] in commands:
                    shown[words[0]].append((where, words[1:end]))
                else:
                    findings.append(f"{where}: there is no command {words[0]}")
    for name, lines in shown.items():
        findings += check_command(commands[name], lines)
    return findings


def check_command(package: Package, lines: list[tuple[str, list[str]]]) -> list[str]:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, package.folder.parent.glob("*/src")))}
    env.pop("PYTHONDONTWRITEBYTECODE", None)  # with it every start compiles the sources, which is not a user's start
    python = [sys.executable, "-c"]
    child = subprocess.run(
        [*python, PARSE, package.module], input=json.dumps(lines), env=env, capture_output=True, text=True
    )
    if child.returncode:
        return [f"{package.name}: the command does not load: {child.stderr.strip().splitlines()[-1]}"]
    verbs, wrong = json.loads(child.stdout)
    findings = [f"{where}: {text}" for where, text in wrong]
    for verb in verbs:
        name = " ".join([package.name, *verb, "--help"])
        # Against a start beside it, since machines differ; the best of three, since a busy one inflates either.
        for _ in range(3):
            _, start, _ = run_timed([*python, START], env)
            status, seconds, errors = run_timed([*python, HELP, package.module, *verb], env)
            if status or seconds < HELP_STARTS * start:
                break
        if status:
            findings.append(f"{name}: {(errors or f'exit status {status}').splitlines()[-1]}")
        elif seconds >= HELP_STARTS * start:
            findings.append(f"{name}: takes {seconds:.2f} s of processor time, {seconds / start:.1f} starts of Python")
    return findings


def run_timed(command: list[str], env: dict[str, str]) -> tuple[int, float, str]:
    """Exit status, seconds of processor time and standard error of one child."""
    child = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    with child.stderr as pipe:
        errors = pipe.read().strip()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    return child.returncode, usage.ru_utime + usage.ru_stime, errors


def check_links(root: Path) -> list[str]:
    """Relative links between the pages lead somewhere."""
    findings = []
    for path in documents(root):
        text = path.read_text(encoding="utf-8")
        text = re.sub(r"```.*?```", lambda block: "\n" * block[0].count("\n"), text, flags=re.S)
        for link in re.finditer(r"\]\(([^)\s#]+)", text):
            if not re.match(r"\w+:", link[1]) and not (path.parent / link[1]).exists():
                line = text.count("\n", 0, link.start()) + 1
                findings.append(f"{path.relative_to(root)}:{line}: the link to {link[1]} leads nowhere")
    return findings


def check_reference(root: Path) -> list[str]:
    """Every public module of the core has its place in the reference."""
    pages = "\n".join(path.read_text(encoding="utf-8") for path in root.glob("docs/reference/*.md"))
    core = root / "packages/audio-core/src"
    paths = [path.relative_to(core).with_suffix("") for path in sorted(core.rglob("*.py"))]
    names = [".".join(path.parts) for path in paths if not path.name.startswith("__") and path.name != "cli"]
    return [f"docs/reference: lacks {name}" for name in names if f"::: {name}\n" not in f"{pages}\n"]
