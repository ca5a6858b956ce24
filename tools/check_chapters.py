"""Every package has the same chapters, and what loads a model or does its work loads no training."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

from workspace import Package, imports, packages, sources

# What users came for: each package has one of these.
VERBS = ("classify", "codec", "enhance", "separate", "generate")
MODELS = ("model", "models")
# What a chapter may import of its own package, together with what those may import themselves.
CHAPTERS: dict[str, tuple[str, ...]] = {
    "config": (),
    "recipe": ("config",),
    "data": ("recipe",),
    **dict.fromkeys(MODELS, ("config", *MODELS)),
    "task": (*MODELS, "recipe"),
    "train": ("task", "data"),
    **dict.fromkeys(VERBS, MODELS),
    "evaluate": VERBS,
    "original": ("config", *MODELS),
    "cost": ("config", *MODELS),
    "export": (*MODELS, "cost"),
}
# Further folders of a package, which say in their first sentence why they exist, and arrows that only one package has.
THEMES: dict[str, dict[str, tuple[str, ...]]] = {
    "audio_acdnet": {
        "labels": (),
        "config": ("labels",),
        "crops": (),  # training and inference cut alike
        "data": ("crops",),
        "events": (),
        "classify": ("crops", "events"),
        "compress": ("train", "evaluate", "cost"),
        "evaluate": ("data",),  # the protocol is one of a data set: its clips, its folds
        "export": ("data",),  # the clips for calibration
    },
    "audio_soundstream": {
        "sstr": ("config",),
        "live": ("codec", "sstr"),
        "codec": ("sstr", "live", "cost"),  # files are written as they are read, by the streams
        "evaluate": ("cost",),
        "export": ("codec", "sstr"),  # the device writes the same file
        "cost": ("live",),  # latency is that of the streams
        "model": ("original",),  # codebooks that learn as the originals' did
        "discriminators": (),
        "task": ("discriminators",),
        "original": ("discriminators",),  # one of them with its axes swapped
    },
    "audio_semamba": {
        "scan": (),
        "mamba": ("scan",),
        "layers": (),
        "compressed": (),
        "model": ("layers", "mamba", "compressed"),
        "pcs": (),
        "live": ("model",),
        "enhance": ("live", "pcs"),  # long recordings of a causal model are streamed
        "data": ("pcs",),  # stretched targets
        "discriminator": ("config",),
        "loss": ("model", "compressed"),
        "original_recipe": ("recipe",),
        "original": ("discriminator", "original_recipe"),  # both are among its files
        "measures": (),
        "scores": (),  # PESQ in worker processes
        "task": ("discriminator", "loss", "scores"),
        "train": ("original",),  # a discriminator that has learnt before
        "evaluate": ("data", "measures", "pcs", "scores"),  # pairs are matched as for training
    },
    "audio_sep": {
        "loss": ("recipe",),
        "measures": (),
        "task": ("loss", "measures"),
        "original_recipe": ("recipe",),
        "channels": (),
        "separate": ("channels",),
        "stem_files": ("separate",),  # from files to files
        "parallel": (),  # a batch in several processes
        "evaluate": ("data", "measures"),  # songs are found as for packing
        "export": ("separate",),  # a file takes the segments that it has
        "registry": (),
        "models": ("registry",),  # a name from it is no bundle yet
        "download": ("registry",),
        "original": ("original_recipe",),  # it says what a checkpoint does not
    },
    "audio_codec_vae": {
        "resampling": (),  # models, discriminators and prepared tensors depend on one filter
        "models": ("resampling",),
        "discriminators": ("recipe", "resampling"),
        "weighting": (),
        "spectral": ("recipe", "weighting"),
        "loss": ("recipe", "models", "spectral"),
        "task": ("discriminators", "loss"),
        "model_config": ("recipe", "models"),
        "original": ("model_config",),  # it says what a checkpoint does not
        "encoders": ("original",),  # a part of another package's model, which may be converted
        "prepare": ("resampling",),  # tensors as the original conditions them
        "items": ("models",),  # latents for training, on disk
        "codec": ("items",),
        "preencode": ("codec",),
        "measures": (),
        "evaluate": ("loss", "measures", "spectral"),  # quality is told in the distances that were learnt by
    },
    "audio_gen": {
        "masks": ("config",),
        "diffusion": ("config",),
        "models": ("diffusion",),  # guidance needs the objective
        "adapters": ("config", "models"),
        "diffuse": ("models",),
        "generate_codes": ("models",),
        "generate": ("diffuse", "generate_codes"),
        "editing": ("generate",),  # recordings, by the same sampling
        "files": ("diffusion",),  # lists of prompts, and what results are called
        "making": ("adapters", "editing", "files"),  # the arguments of these verbs
        "task": ("data", "losses", "masks"),
        "adversarial": ("task",),
        "finetune": ("adapters", "recipe"),
        "train": ("adapters", "adversarial"),
        "model_config": ("recipe", "models"),
        "original": ("model_config",),  # it says what a checkpoint does not
        "losses": ("diffusion",),  # training and evaluation measure alike
        "measures": (),
        "held_out": ("models", "data", "measures"),  # items are found as for training
        "evaluate": ("held_out", "losses"),
        "ui": ("editing", "files"),  # the same by a web page
    },
}
# What a model or a verb never loads; of these the recipe is the only one that is plain enough to be missed.
TRAINING = ("accelerate", "audio_core.train", "{}.recipe", "{}.data", "{}.task", "{}.train")

# Run in a child, where nothing else has been imported. The first imports modules and tells what came with each.
LOADED = """
import importlib, json, pathlib, sys
package, names, unwanted = json.loads(sys.argv[1])
loaded = []
for name in names:
    module = importlib.import_module(name)
    whole = importlib.import_module(package)
    if name.rpartition(".")[2].startswith("model") and (pathlib.Path(whole.__file__).parent / "default").is_dir():
        whole.load("default")
        name += " and load()"
    for each in [each for each in unwanted if each in sys.modules]:
        loaded.append(f"{name} imports {each}")
        unwanted.remove(each)
json.dump(loaded, sys.stdout)
"""


def check_chapters(root: Path) -> list[str]:
    """Each module is a chapter, imports only what its chapter may, and the command imports nothing before it runs."""
    lines = []
    for package in packages(root):
        if package.module == "audio_core":  # which has rooms
            continue
        chapters = allowed(package.module)
        lines += unexplained(root, package, chapters)
    for package, path in sources(root):
        if package.module == "audio_core":
            continue
        chapters, own = allowed(package.module), modules(package)
        for line, module, name, inside in imports(path, package):
            here, there = chapter(module), chapter(name)
            where = f"{path.relative_to(root)}:{line}"
            if here in (*MODELS, *VERBS) and name.startswith(("audio_core.train", "accelerate")):
                lines.append(f"{where}: {here} may not import {name}: inference loads no training")
            if here in MODELS and name.startswith("audio_core.data"):
                lines.append(f"{where}: a model knows nothing of data")
            if name.split(".")[0] != package.module or there not in own or there in (here, "__about__"):
                continue
            if here == "cli" and not inside:
                lines.append(f"{where}: cli imports {there} before a verb runs; import it inside the function")
            if here in chapters and there in {**chapters, "cli": ()} and there not in chapters[here]:
                lines.append(f"{where}: {here} may not import {there}")
    return lines


def allowed(package: str) -> dict[str, set[str]]:
    """The chapters of a package, each with all that it may import of the others, directly or through them."""
    direct = {name: set(names) for name, names in CHAPTERS.items()}
    for name, names in THEMES.get(package, {}).items():
        direct[name] = direct.get(name, set()) | set(names)
    for middle in direct:  # the closure: whoever may import `middle` may import what `middle` may
        for reached in direct.values():
            reached |= direct[middle] if middle in reached else set()
    return direct


def chapter(name: str) -> str:
    """`data` of audio_sep.data.mix, nothing of audio_sep itself."""
    return name.partition(".")[2].partition(".")[0]


def modules(package: Package) -> dict[str, Path]:
    """The chapters that a package has, with the file that says what each is for."""
    paths = [*package.source.glob("*.py"), *package.source.glob("*/__init__.py")]
    return {path.stem if path.parent == package.source else path.parent.name: path for path in sorted(paths)}


def unexplained(root: Path, package: Package, chapters: dict[str, set[str]]) -> list[str]:
    """Modules beside the chapters that have no place or do not say what they are for."""
    lines = []
    for name, path in modules(package).items():
        if name.startswith("__") or name == "cli":
            continue
        if name not in chapters:
            lines.append(
                f"{path.relative_to(root)}: {name} is no chapter; see CHAPTERS and THEMES in {Path(__file__).name}"
            )
        elif name not in CHAPTERS and not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))):
            lines.append(f"{path.relative_to(root)}: stands beside the chapters and does not say why")
    return lines


def check_inference(root: Path) -> list[str]:
    """Models and verbs load no training, neither by themselves nor through another module; settings load no torch."""
    lines = []
    for package in packages(root):
        names = modules(package)
        unwanted = [name.format(package.module) for name in TRAINING]
        for chapters, others in ((("config", "recipe"), ["torch"]), ((*MODELS, *VERBS), unwanted)):
            present = [f"{package.module}.{name}" for name in chapters if name in names]
            if present and package.module != "audio_core":
                lines += loaded(package, present, others)
    return lines


def loaded(package: Package, names: list[str], unwanted: list[str]) -> list[str]:
    """Which of the unwanted modules come along when `names` are imported, one after another, in a new process."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, package.folder.parent.glob("*/src")))}
    command = [sys.executable, "-c", LOADED, json.dumps([package.module, names, unwanted])]
    child = subprocess.run(command, env=env, capture_output=True, text=True)
    if child.returncode:
        return [f"{package.name}: {', '.join(names)} does not import: {child.stderr.strip().splitlines()[-1]}"]
    return [f"{package.name}: {line}" for line in json.loads(child.stdout)]
