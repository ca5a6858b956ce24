"""Rules for every change that no package's own tests can check. Prints nothing when all is well.

The rules are about imports, sizes, versions, commands and links in the documentation, and how fast commands start.
ruff and mypy run beside them. A rule takes the root of a workspace and returns a line for each finding, so that tests
can give it wrong workspaces.
"""

import ast
import re
import subprocess
import sys
from pathlib import Path

from check_chapters import check_chapters, check_inference
from check_documents import check_commands, check_links, check_reference
from workspace import ROOT, imports, packages, read_toml, sources

# The rooms of the core: each imports only from rows above its own, and from itself.
ROOMS = (
    ("checks", "files"),
    ("config",),
    ("dsp",),
    ("nn",),
    ("loss",),
    ("audio",),
    ("data",),
    ("command", "draw", "weights"),
    ("chunk", "batch", "codec", "metrics", "report", "bundle"),
    ("export", "package", "latents"),
    ("verbs",),
    ("cli",),
    ("train",),
    ("testing",),
)
RANK = {room: rank for rank, row in enumerate(ROOMS) for room in row}
# The only module, or folder, of the workspace that may import a heavy library.
OWNERS = {
    "accelerate": "audio_core.train",
    "h5py": "audio_core.data.pack",
    "yaml": "audio_core.config",
    "soundfile": "audio_core.audio",
    "soxr": "audio_core.audio",
    "pesq": "audio_core.metrics",
    "pystoi": "audio_core.metrics",
    "vector_quantize_pytorch": "audio_core.nn.quantize",
    "gradio": "audio_gen.ui",
    "torchaudio": "tests only, since its wheels do not load beside every torch",
}
FROM_CORE = {"torch", "numpy", "tqdm"}  # what whoever depends on audio-core has
DISTRIBUTIONS = {
    "yaml": "pyyaml",
    "PIL": "pillow",
    "selective_scan_cuda": "mamba-ssm",
}  # where the import is named unlike the distribution
FILE_LINES, CLI_LINES = 400, 250
# Of code. It was 4500 while two packages held for themselves what all seven share; since then the core has the common
# verbs, the frame of exports, latents, shards, several outputs of a pass, aligned sources, the checks of what users
# pass and norms over processes, 6500 in all. What would pass this limit takes something out, or belongs into a package.
CORE_LINES = 6600
# Paths of one machine, and the hosts behind an index. Written so that this line does not match itself.
PRIVATE = re.compile(r"(?<![\w.*])/(?:work|root|farm|opt|home/\w+)/|files\.python[h]osted|pypi\.o[r]g")


def check_imports(root: Path) -> list[str]:
    """The core in order, no siblings, one owner per heavy library, all declared."""
    lines = []
    for package, path in sources(root):
        declared = {distribution(re.split(r"[^\w.-]", line)[0]) for line in package.requirements}
        declared |= FROM_CORE if "audio-core" in declared else set()
        for line, module, name, inside in imports(path, package):
            top, owner = name.split(".")[0], OWNERS.get(name.split(".")[0])
            wrong = None
            if top == package.module == "audio_core":
                wrong = room_order(module, name, inside)
            elif top in (package.module, "audio_core"):
                continue  # the chapters are check_chapters'
            elif top.startswith("audio_"):
                wrong = f"a package never imports a sibling ({top}); they meet through entry points"
            elif owner and not f"{module}.".startswith(f"{owner}.") and (top, room(module)) != ("h5py", "original"):
                wrong = f"{top} belongs to {owner}"
            elif top not in sys.stdlib_module_names and distribution(top) not in declared:
                wrong = f"{top} is not declared in the package's pyproject.toml"
            if wrong:
                lines.append(f"{path.relative_to(root)}:{line}: {wrong}")
    return lines


def distribution(name: str) -> str:
    return DISTRIBUTIONS.get(name, name.lower().replace("_", "-"))


def room(module: str) -> str:
    """`data` of audio_core.data.pack, nothing of audio_core itself."""
    return module.partition(".")[2].partition(".")[0]


def room_order(module: str, name: str, inside: bool) -> str | None:
    here, there = room(module), room(name)
    if here in ("", "__main__") or there in ("", here) or there.startswith("__"):
        return None
    if here == "cli" and inside:  # a command may use everything, once it is asked to run
        return None
    if unknown := [each for each in (here, there) if each not in RANK]:
        return f"audio_core.{unknown[0]} has no place in the order of rooms"
    if RANK[there] >= RANK[here]:
        return f"audio_core.{here} may not import audio_core.{there}, which does not come before it"
    return None


def check_sizes(root: Path) -> list[str]:
    paths = [*sorted(root.glob("tools/**/*.py")), *(path for _, path in sources(root))]
    sizes = {path.relative_to(root): path.read_text(encoding="utf-8").count("\n") for path in paths}
    limits = {path: CLI_LINES if path.name == "cli.py" else FILE_LINES for path in sizes}
    lines = [f"{path}: {size} lines, over {limits[path]}" for path, size in sizes.items() if size > limits[path]]
    core = sum(code_lines(root / path) for path in sizes if "audio_core" in path.parts)
    return lines + [f"packages/audio-core: {core} lines of code, over {CORE_LINES}"] * (core > CORE_LINES)


def code_lines(path: Path) -> int:
    """Lines that a person must understand to change the code: no blank ones, comments or docstrings."""
    text = path.read_text(encoding="utf-8")
    nodes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Expr)]
    texts = [node for node in nodes if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)]
    docstrings = {line for node in texts for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)}
    lines = enumerate(text.splitlines(), 1)
    return sum(bool(line.strip()) and not line.strip().startswith("#") and at not in docstrings for at, line in lines)


def check_packages(root: Path) -> list[str]:
    """Every package is in the environment, its changelog begins at its version, and its command exists in both ways."""
    members = read_toml(root / "hatch.toml")["envs"]["default"]["workspace"]["members"]
    lines = []
    for package in packages(root):
        folder = package.folder.relative_to(root).as_posix()
        scripts = {package.name: f"{package.module}.cli:main"} if package.has_command else {}
        if folder not in [member["path"] for member in members]:
            lines.append(f"{folder}: is not among the members of hatch.toml")
        if package.version != package.newest_entry:
            lines.append(f"{folder}: version {package.version}, but the changelog begins at {package.newest_entry!r}")
        if package.project.get("scripts", {}) != scripts:
            lines.append(f"{folder}: [project.scripts] should be {scripts or 'absent: there is no cli.py'}")
        if package.has_command and not (package.source / "__main__.py").exists():
            lines.append(f"{folder}: has no __main__.py, so `python -m {package.module}` is not its command")
    return lines


def check_private(root: Path) -> list[str]:
    """No file that git knows or would take names a path of one machine or the host behind an index."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listing, cwd=root, capture_output=True, text=True, check=True).stdout.split("\0")
    lines = []
    for name in sorted(filter(None, names)):
        data = (root / name).read_bytes() if (root / name).is_file() else b""
        if b"\0" not in data[:8192]:  # else not a text
            for number, line in enumerate(data.decode(errors="replace").splitlines(), 1):
                lines += [f"{name}:{number}: names {match[0]}" for match in PRIVATE.finditer(line)]
    return lines


RULES = (
    check_imports,
    check_chapters,
    check_inference,
    check_sizes,
    check_packages,
    check_commands,
    check_links,
    check_reference,
    check_private,
)
TOOLS = (
    ["ruff", "check", "-q", "--output-format=concise", "."],
    ["ruff", "format", "--check", "."],
    ["mypy", "--no-error-summary"],
)


def main(root: Path = ROOT) -> int:
    options = {"cwd": root, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    running = [subprocess.Popen([sys.executable, "-m", *tool], **options) for tool in TOOLS]
    lines = [line for rule in RULES for line in rule(root)]
    for tool, child in zip(TOOLS, running, strict=True):
        output = child.communicate()[0].splitlines()
        if child.returncode:
            lines += output or [f"{' '.join(tool)}: exit status {child.returncode}"]
    for line in lines:
        print(line)
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
