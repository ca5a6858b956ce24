"""What a change must keep true and no package's own tests can see. Silent when all is well, else a line per finding.

Which way imports point, sizes, versions, start-up of the commands, what the documentation shows; ruff and mypy run
beside. Each rule takes the root of a workspace and returns its findings, so that tests can feed it wrong ones.
"""

import ast
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from workspace import ROOT, Package, packages, read_toml

# The rooms of the core: each may import only from rows above its own, and from itself.
ROOMS = (
    ("files",),
    ("config",),
    ("dsp",),
    ("nn",),
    ("loss",),
    ("audio",),
    ("data",),
    ("chunk", "batch", "codec", "metrics", "report", "bundle", "cli"),
    ("train",),
    ("testing",),
)
RANK = {room: rank for rank, row in enumerate(ROOMS) for room in row}
OWNERS = {
    "accelerate": "audio_core.train",
    "h5py": "audio_core.data.pack",
    "yaml": "audio_core.config",
    "soundfile": "audio_core.audio",
    "soxr": "audio_core.audio",
    "pesq": "audio_core.metrics",
    "pystoi": "audio_core.metrics",
    "torchaudio": "no module: its wheels do not load beside every torch",
}
DISTRIBUTIONS = {"yaml": "pyyaml"}  # where the import is named unlike the distribution
FILE_LINES, CORE_LINES, HELP_SECONDS = 400, 4000, 0.1
# Written so that this line does not match itself.
PRIVATE = re.compile(r"(?<![\w.*])/(?:work|root|farm|opt|home/\w+)/|files\.python[h]osted|pypi\.org/[s]imple")
OPERATORS = {"&&", "||", "|", ";", "&", "(", ")"}

# Run in a child: parse command lines without running them, and list every command with its subcommands.
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
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            parser.parse_args(words)
    except BaseException as error:
        if not isinstance(error, SystemExit) or error.code:
            wrong.append([place, (said.getvalue() or str(error)).strip().splitlines()[-1]])
json.dump([list(verbs(parser)), wrong], sys.stdout)
"""
HELP = """
import importlib, sys
try:
    sys.exit(importlib.import_module(sys.argv[1] + ".cli").main([*sys.argv[2:], "--help"]))
finally:
    if "torch" in sys.modules:
        sys.exit("imports torch")
"""


def imports(path: Path, package: Package) -> Iterator[tuple[str, str, str, bool]]:
    """(place, importing module, dotted name imported, whether inside a function) of each import in a source file."""
    parts = path.relative_to(package.source.parent).with_suffix("").parts
    within = parts[:-1]
    module = ".".join(within if parts[-1] == "__init__" else parts)
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    inner = {id(node) for function in functions for node in ast.walk(function)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = within[: len(within) - node.level + 1] if node.level else ()
            names = [".".join([*above, *filter(None, [node.module]), alias.name]) for alias in node.names]
        else:
            continue
        for name in names:
            yield f"{place(path, package)}:{node.lineno}", module, name, id(node) in inner


def place(path: Path, package: Package) -> str:
    return path.relative_to(package.folder.parents[1]).as_posix()


def sources(root: Path) -> Iterator[tuple[Package, Path]]:
    for package in packages(root):
        for path in sorted(package.source.rglob("*.py")):
            yield package, path


def check_imports(root: Path) -> list[str]:
    """Import rules 1 to 4: declared or own or the core; room order in the core; one owner; models know no data."""
    found = []
    for package, path in sources(root):
        declared = {re.split(r"[^\w.-]", line)[0].lower().replace("_", "-") for line in package.requirements}
        for where, module, name, inside in imports(path, package):
            top, *rest = name.split(".")
            owner = OWNERS.get(top)
            if top in sys.stdlib_module_names:
                continue
            if top == package.module and top == "audio_core":
                found += [f"{where}: {text}" for text in room_order(module, rest, inside)]
            elif top == package.module or top == "audio_core":
                found += [f"{where}: {text}" for text in model_alone(module, rest)]
            elif top.startswith("audio_"):
                found.append(f"{where}: a package never imports a sibling ({top}); they meet through entry points")
            elif owner and not f"{module}.".startswith(f"{owner}."):
                found.append(f"{where}: {top} belongs to {owner}")
            elif DISTRIBUTIONS.get(top, top.lower().replace("_", "-")) not in declared:
                found.append(f"{where}: {top} is not declared in {place(package.folder, package)}/pyproject.toml")
    return found


def room_order(module: str, target: list[str], inside: bool) -> Iterator[str]:
    here, there = (module.split(".") + [""])[1], target[0] if target else ""
    if here.strip("_") in ("", "main", "about") or there.startswith("__") or here == there:
        return
    if here == "cli" and inside:  # a command may use everything, once it is asked to run
        return
    unknown = [room for room in (here, there) if room not in RANK]
    if unknown:
        yield f"audio_core.{unknown[0]} has no place in the order of rooms"
    elif RANK[there] >= RANK[here]:
        yield f"audio_core.{here} may not import audio_core.{there}, which does not come before it"


def model_alone(module: str, target: list[str]) -> Iterator[str]:
    here = (module.split(".") + [""])[1]
    if here.startswith("model") and target and target[0] in ("data", "task", "recipe", "train"):
        yield f"a model knows nothing of {target[0]}"


def check_sizes(root: Path) -> list[str]:
    paths = [(path, path.read_text(encoding="utf-8").count("\n")) for path in [*root.glob("tools/**/*.py")]]
    paths += [(path, path.read_text(encoding="utf-8").count("\n")) for _, path in sources(root)]
    found = [f"{p.relative_to(root)}: {n} lines, over {FILE_LINES}" for p, n in paths if n > FILE_LINES]
    core = sum(lines for path, lines in paths if "audio_core" in path.parts)
    if core > CORE_LINES:
        found.append(f"packages/audio-core: {core} lines of source, over {CORE_LINES}")
    return found


def check_members(root: Path) -> list[str]:
    """Every package is in the environment, its changelog tells of its version, and its command exists."""
    members = read_toml(root / "hatch.toml")["envs"]["default"]["workspace"]["members"]
    listed = {member["path"] if isinstance(member, dict) else member for member in members}
    found = []
    for package in packages(root):
        folder = place(package.folder, package)
        command = {package.name: f"{package.module}.cli:main"} if (package.source / "cli.py").exists() else {}
        if folder not in listed:
            found.append(f"{folder}: is not among the members of hatch.toml")
        if package.version != package.newest_entry:
            found.append(f"{folder}: version {package.version}, but its changelog begins at {package.newest_entry}")
        if package.project.get("scripts", {}) != command:
            found.append(f"{folder}: [project.scripts] should be {command or 'absent, as there is no cli.py'}")
    return found


def documents(root: Path) -> list[Path]:
    readmes = [root / "README.md", root / "CONTRIBUTING.md", *root.glob("packages/*/README.md")]
    return [path for path in [*readmes, *sorted(root.glob("docs/**/*.md"))] if path.exists()]


def shell_lines(text: str) -> Iterator[tuple[int, list[str]]]:
    """(line number, words) of each simple command in the fenced shell blocks of a page."""
    for block in re.finditer(r"^ *```(\w*)[^\n]*\n(.*?)^ *```", text, re.M | re.S):
        if block[1] not in ("", "sh", "bash", "shell", "console"):
            continue
        number = text.count("\n", 0, block.start(2))
        for line in re.sub(r"\\\n", " \n", block[2]).replace(" \n", "\0").split("\n"):
            number += 1
            at, number = number, number + line.count("\0")
            if block[1] == "console" and not line.lstrip().startswith("$ "):
                continue
            lexer = shlex.shlex(line.replace("\0", " ").lstrip().removeprefix("$ "), posix=True, punctuation_chars=True)
            lexer.whitespace_split = True
            words: list[str] = []
            for word in [*lexer, ";"]:
                if word not in OPERATORS:
                    words.append(word)
                elif words:
                    yield at, words
                    words = []


def check_commands(root: Path) -> list[str]:
    """Commands shown in the documentation exist and parse; all of them start fast and without torch."""
    found = []
    hatch = read_toml(root / "hatch.toml")["envs"]
    scripts = {name if env == "default" else f"{env}:{name}" for env in hatch for name in hatch[env].get("scripts", {})}
    shown: dict[str, list[tuple[str, list[str]]]] = {package.name: [] for package in packages(root)}
    for path in documents(root):
        for line, words in shell_lines(path.read_text(encoding="utf-8")):
            where = f"{path.relative_to(root)}:{line}"
            while re.match(r"\w+=", words[0]) and words[1:]:
                words = words[1:]
            if Path(words[0]).name == "hatch" and words[1:2] == ["run"]:
                words = words[2:]
                if words and not words[0].startswith("audio-") and words[0] not in scripts:
                    found.append(f"{where}: hatch.toml has no script {words[0]}")
            if words and words[0].startswith("audio-"):
                end = next((at for at, word in enumerate(words) if word[0] in "<>"), len(words))
                shown.setdefault(words[0], []).append((where, words[1:end]))
    commands = {package.name: package for package in packages(root) if (package.source / "cli.py").exists()}
    for name, lines in shown.items():
        if name in commands:
            found += check_command(commands[name], lines)
        else:
            found += [f"{where}: there is no command {name}" for where, _ in lines]
    return found


def check_command(package: Package, lines: list[tuple[str, list[str]]]) -> list[str]:
    paths = os.pathsep.join(str(path) for path in package.folder.parent.glob("*/src"))
    env = {**os.environ, "PYTHONPATH": paths}
    command = [sys.executable, "-c", PARSE, package.module]
    child = subprocess.run(command, input=json.dumps(lines), env=env, capture_output=True, text=True)
    if child.returncode:
        return [f"{package.name}: the command does not load: {child.stderr.strip().splitlines()[-1]}"]
    verbs, wrong = json.loads(child.stdout)
    found = [f"{where}: {text}" for where, text in wrong]
    for verb in verbs:
        # The better of two, as a busy machine inflates even the time on the processor.
        for _ in range(2):
            child = subprocess.Popen(
                [sys.executable, "-c", HELP, package.module, *verb],
                env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            )  # fmt: skip
            error = child.stderr.read().strip()
            child.stderr.close()
            _, status, usage = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
            seconds = usage.ru_utime + usage.ru_stime
            if child.returncode or seconds < HELP_SECONDS:
                break
        name = " ".join([package.name, *verb, "--help"])
        if child.returncode:
            found.append(f"{name}: {(error or f'exit status {child.returncode}').splitlines()[-1]}")
        elif seconds >= HELP_SECONDS:
            found.append(f"{name}: takes {seconds:.2f} s of processor time, over {HELP_SECONDS}")
    return found


def check_links(root: Path) -> list[str]:
    """Relative links between the pages lead somewhere."""
    found = []
    for path in documents(root):
        text = re.sub(r"```.*?```", lambda block: "\n" * block[0].count("\n"), path.read_text(), flags=re.S)
        for link in re.finditer(r"\]\(([^)\s#]+)[^)]*\)", text):
            if not re.match(r"\w+:", link[1]) and not (path.parent / link[1]).exists():
                line = text.count("\n", 0, link.start()) + 1
                found.append(f"{path.relative_to(root)}:{line}: the link to {link[1]} leads nowhere")
    return found


def check_private(root: Path) -> list[str]:
    """No file that git knows, or would take, names a path of one machine or an index's host."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    found = []
    for name in subprocess.run(listing, cwd=root, capture_output=True, text=True, check=True).stdout.split("\0"):
        path = root / name
        data = path.read_bytes() if name and path.is_file() else b""
        if b"\0" not in data[:8192]:
            for number, line in enumerate(data.decode(errors="replace").splitlines(), 1):
                found += [f"{name}:{number}: names {match[0]}" for match in PRIVATE.finditer(line)]
    return found


RULES = (check_imports, check_sizes, check_members, check_commands, check_links, check_private)
TOOLS = (
    ["ruff", "check", "-q", "--output-format=concise", "."],
    ["ruff", "format", "--check", "."],
    ["mypy", "--no-error-summary"],
)


def main(root: Path = ROOT) -> int:
    running = [
        subprocess.Popen([sys.executable, "-m", *tool], cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for tool in TOOLS
    ]
    found = [line for rule in RULES for line in rule(root)]
    for tool, child in zip(TOOLS, running, strict=True):
        said = child.communicate()[0].strip().splitlines()
        if child.returncode:
            found += said or [f"{' '.join(tool)}: exit status {child.returncode}"]
    print(*found, sep="\n", end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
