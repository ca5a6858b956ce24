"""What audio-gen costs, with random weights and noise, on one thread: beside the original's way in this process, and
beside diffusers in processes of their own.

"The original's way" is the same network and weights, with PyTorch's own linear layers, all positions of the
feed-forward layer at once, and rotations of whole tables, as in stable-audio-tools; attention is PyTorch's in both. The
shape is that of Stable Audio Open Small: 341 million parameters, 256 latents for 12 s, of a text of 64 tokens.

hatch run bench gen [--rounds 3]
"""

import argparse
import functools
import math
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from audio_core import config as configs
from audio_core.train.fit import fit
from audio_core.train.run import Run
from audio_gen import SHIPPED
from audio_gen.config.backbones import DiTConfig
from audio_gen.config.language import CodeSampling, LanguageModelConfig
from audio_gen.config.transformer import AttentionConfig, TransformerConfig
from audio_gen.data import Sample, collate
from audio_gen.generate import generate
from audio_gen.models.decoding import generate_codes
from audio_gen.models.diffusion import Diffusion
from audio_gen.models.dit import DiT
from audio_gen.models.language import LanguageModel
from audio_gen.models.transformer import TransformerBlock
from audio_gen.recipe import Recipe
from audio_gen.task import learning
from torch import Tensor

from tools.bench.processes import cost, python_with
from tools.bench.timing import best, shown, snr_db, taken

FRAMES, LONGER = 256, 1024  # latents: 11.9 and 47.6 s
TOKENS, TEXT = 65, 768  # those of a text and one of the length; their width
DIFFUSERS = "diffusers==0.42.1"

# --- Stable Audio Open Small's shape -------------------------------------------------------------------------


def small() -> DiT:
    """Every weight is drawn, those that begin as zeros too, so that all of the network counts."""
    torch.manual_seed(0)
    transformer = TransformerConfig(attention=AttentionConfig(qk_norm="ln"), zero_init_branch_outputs=False)
    sizes = {"io_channels": 64, "embed_dim": 1024, "depth": 16, "num_heads": 8}
    return DiT(DiTConfig(**sizes, cond_token_dim=TEXT, global_cond_dim=TEXT, transformer=transformer)).eval()


def inputs(frames: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    shapes = {"x": (1, 64, frames), "cross_attn_cond": (1, TOKENS, TEXT), "global_cond": (1, TEXT)}
    drawn = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    return drawn | {"t": torch.tensor([0.5])}


class OriginalWay:
    """The same weights."""

    def __init__(self, model: DiT):
        self.model = model

    def __call__(self, x: Tensor, t: Tensor, cross_attn_cond: Tensor, global_cond: Tensor) -> Tensor:
        model, transformer = self.model, self.model.transformer
        context = model.to_cond_embed(cross_attn_cond)
        time = model.to_timestep_embed(model.timestep_features(t))
        vector = model.to_global_embed(global_cond) + time
        sequence = (x + F.conv1d(x, model.preprocess_conv.weight)).transpose(1, 2)
        y = torch.cat([vector[:, None], F.linear(sequence, transformer.project_in.weight)], 1)
        table = self.table(y.shape[1], transformer.rotated)
        for block in transformer.layers:
            y = self.block(block, y, context, table)
        y = F.linear(y, transformer.project_out.weight)[:, 1:].transpose(1, 2)
        return y + F.conv1d(y, model.postprocess_conv.weight)

    def table(self, positions: int, width: int) -> Tensor:
        speeds = 1.0 / 10000 ** (torch.arange(0, width, 2).float() / width)
        angles = torch.arange(positions).float()[:, None] * speeds
        return torch.cat([angles, angles], -1)

    def block(self, block: TransformerBlock, x: Tensor, context: Tensor, table: Tensor) -> Tensor:
        own, cross, head = block.self_attn, block.cross_attn, block.self_attn.head
        normed = F.layer_norm(x, x.shape[2:], block.pre_norm.gamma, block.pre_norm.beta)
        q, k, v = (
            each.unflatten(2, (-1, head)).transpose(1, 2) for each in F.linear(normed, own.to_qkv.weight).chunk(3, -1)
        )
        q, k = self.rotated(own.q_norm(q), table), self.rotated(own.k_norm(k), table)
        x = x + F.linear(self.attended(q, k, v), own.to_out.weight)
        normed = F.layer_norm(x, x.shape[2:], block.cross_attend_norm.gamma, block.cross_attend_norm.beta)
        q = F.linear(normed, cross.to_q.weight).unflatten(2, (-1, head)).transpose(1, 2)
        k, v = (
            each.unflatten(2, (-1, head)).transpose(1, 2) for each in F.linear(context, cross.to_kv.weight).chunk(2, -1)
        )
        x = x + F.linear(self.attended(cross.q_norm(q), cross.k_norm(k), v), cross.to_out.weight)
        normed = F.layer_norm(x, x.shape[2:], block.ff_norm.gamma, block.ff_norm.beta)
        value, gate = F.linear(normed, block.ff.up.weight, block.ff.up.bias).chunk(2, -1)
        return x + F.linear(value * F.silu(gate), block.ff.down.weight, block.ff.down.bias)

    def attended(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)

    def rotated(self, x: Tensor, table: Tensor) -> Tensor:
        width = table.shape[1]
        turned, rest = x[..., :width], x[..., width:]
        first, second = turned.chunk(2, -1)
        return torch.cat([turned * table.cos() + torch.cat([-second, first], -1) * table.sin(), rest], -1)


@torch.no_grad()
def one_step(way: str, frames: int) -> None:
    """For a process of its own, whose memory is told."""
    model = small()
    (OriginalWay(model) if way == "original" else model)(**inputs(frames))


# The same size with random weights. It has no norms of queries and keys. torchaudio, which it does not need, may be of
# another PyTorch than the one at hand.
LIBRARIES = """
import resource, sys
sys.modules["torchaudio"] = None
import torch
from diffusers import StableAudioDiTModel
from diffusers.models.embeddings import get_1d_rotary_pos_embed
"""
PEER = f"""{LIBRARIES}
frames, rounds = map(int, sys.argv[1:])
torch.manual_seed(0)
model = StableAudioDiTModel(
    sample_size=frames, in_channels=64, out_channels=64, num_layers=16, attention_head_dim=128, num_attention_heads=8,
    num_key_value_attention_heads=8, cross_attention_dim=1024, cross_attention_input_dim=768,
    global_states_input_dim=768, time_proj_dim=256,
).eval()
x, text, vector = torch.randn(1, 64, frames), torch.randn(1, 65, 768), torch.randn(1, 1, 768)
rotary = get_1d_rotary_pos_embed(64, frames + 1, use_real=True, repeat_interleave_real=False)
times = []
with torch.no_grad():
    for _ in range(rounds):
        began = resource.getrusage(resource.RUSAGE_SELF)
        model(x, torch.tensor([0.5]), text, vector, rotary_embedding=rotary, return_dict=False)
        ended = resource.getrusage(resource.RUSAGE_SELF)
        times.append(ended.ru_utime - began.ru_utime + ended.ru_stime - began.ru_stime)
print(sum(each.numel() for each in model.parameters()), min(times))
"""


@torch.no_grad()
def steps(rounds: int) -> None:
    model = small()
    print(f"Stable Audio Open Small's shape, {sum(each.numel() for each in model.parameters()):,} parameters")
    for frames in (FRAMES, LONGER):
        x = inputs(frames)
        ways = [model, OriginalWay(model)]
        agreed = snr_db(*(way(**x).numpy() for way in ways))
        if agreed < 80:
            raise SystemExit(f"the original's way gives something else: SNR {agreed:.1f} dB")
        own, other = best([functools.partial(way, **x) for way in ways], rounds)
        print(f"  one step, {frames} latents: the original's way {shown(other)}; equal within {agreed:.0f} dB")
        print(f"    ours {shown(own)}, {other.seconds / own.seconds:.2f} times as fast", flush=True)
        if frames == FRAMES:
            beside_peer(own.seconds, rounds)
    del model, ways


def beside_peer(own: float, rounds: int) -> None:
    try:
        python = python_with(DIFFUSERS, "diffusers")
        words = [python, "-c", PEER, FRAMES, rounds + 1]
        env = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        done = subprocess.run([*map(str, words)], env=env, capture_output=True, text=True, check=True)
    except (OSError, RuntimeError, subprocess.CalledProcessError) as error:
        print(f"    {DIFFUSERS} is not measured: {error}")
        return
    parameters, seconds = done.stdout.split()
    print(
        f"    {DIFFUSERS}, {int(parameters):,} parameters: {float(seconds):.2f} CPU s: {float(seconds) / own:.2f} times"
    )


def memory() -> None:
    """Peaks of processes of their own."""
    parts = "import torch; from tools.bench.gen import one_step; "
    imports = cost(sys.executable, "-c", parts).megabytes
    print(f"peak memory of a process, of which {imports:.0f} MB are the libraries")
    for way in ("ours", "original"):
        peak = cost(sys.executable, "-c", f"{parts}one_step({way!r}, {LONGER})").megabytes
        print(f"  one step of {LONGER} latents, {way}: {peak:.0f} MB, {peak - imports:.0f} beyond the libraries")
    try:
        python = python_with(DIFFUSERS, "diffusers")
        bare = cost(python, "-c", LIBRARIES).megabytes
        peak = cost(python, "-c", PEER, LONGER, 1).megabytes
    except (OSError, RuntimeError) as error:
        print(f"  {DIFFUSERS} is not measured: {error}")
        return
    print(f"  the same of {DIFFUSERS}: {peak:.0f} MB, {peak - bare:.0f} beyond the libraries", flush=True)


# --- language models -----------------------------------------------------------------------------------------


def codes(rounds: int) -> None:
    torch.manual_seed(0)
    transformer = TransformerConfig(causal=True, zero_init_branch_outputs=False)
    sizes = {"codebooks": 4, "codebook_size": 1024, "embed_dim": 256, "depth": 6, "dim_heads": 64}
    model = LanguageModel(LanguageModelConfig(**sizes, transformer=transformer)).eval()
    results = {}

    def run(cached: bool) -> None:
        results[cached] = generate_codes(model, 253, CodeSampling(top_k=250), [1], cached=cached)

    cached, whole = best([functools.partial(run, each) for each in (True, False)], rounds)
    same = float((results[True] == results[False]).float().mean())
    count = sum(each.numel() for each in model.parameters())
    print(f"language model of {count:,} parameters, 256 steps of 4 codebooks")
    print(f"  the whole sequence again in each step {shown(whole)}; {100 * same:.4g} % of the codes are equal")
    print(
        f"  with keys and values kept {shown(cached)}, {whole.seconds / cached.seconds:.2f} times as fast", flush=True
    )


# --- learning ------------------------------------------------------------------------------------------------

CLASSES, CHANNELS, LENGTH = ("one", "three", "five", "seven"), 8, 32


class Sinusoids:
    """Latents (8, 32) of four classes: odd frequencies, a random phase in each channel, and a little noise."""

    def __getitem__(self, index: int) -> Sample:
        generator = torch.Generator().manual_seed(index)
        kind = index % len(CLASSES)
        phase = 2 * math.pi * torch.rand(CHANNELS, 1, generator=generator)
        wave = 1.3 * torch.sin(2 * math.pi * (2 * kind + 1) * torch.arange(LENGTH) / LENGTH + phase)
        values = wave + 0.1 * torch.randn(CHANNELS, LENGTH, generator=generator)
        return Sample(index, values, torch.ones(LENGTH, dtype=torch.bool), {"class": CLASSES[kind]})

    collate = staticmethod(collate)


def tiny() -> Recipe:
    model = {
        **{"rate": 32, "channels": CHANNELS, "samples": LENGTH, "objective": "rectified_flow"},
        "conditioning": {"cond_dim": 32, "conditioners": {"class": {"kind": "List", "options": list(CLASSES)}}},
        "cross_attention_cond_ids": ["class"],
        "backbone": {
            **{"kind": "DiT", "io_channels": CHANNELS, "embed_dim": 64, "depth": 3, "num_heads": 1},
            **{"cond_token_dim": 32, "transformer": {"attention": {"qk_norm": "ln"}}},
        },
    }
    settings: dict[str, Any] = {
        **{"model": model, "timesteps": {"distribution": {"kind": "LogitNormal"}}},
        **{"optimizer": {"lr": 2e-3, "weight_decay": 0.01}, "schedule": {"kind": "Constant", "warmup": 50}},
        **{"average": 0.99, "steps": 400, "batch": 32, "workers": 0, "seed": 0},
    }
    return configs.build(Recipe, settings)


def learn() -> None:
    recipe, losses = tiny(), []
    torch.manual_seed(0)
    task = learning(recipe, Diffusion(recipe.model))
    with tempfile.TemporaryDirectory() as folder:
        run = Run(Path(folder), recipe, "cpu", quiet=True)
        watch = [lambda task, metrics, run: losses.append(float(metrics["loss"]))]
        used = taken(lambda: fit(task, Sinusoids(), run, watch))
        run.close()
    reached = sum(losses[-50:]) / 50
    print(f"a tiny diffusion transformer, {recipe.steps} steps of {recipe.batch} items: {shown(used)}")
    kinds = torch.arange(256) % len(CLASSES)
    prompts = [{"class": CLASSES[kind]} for kind in kinds]
    right = []
    for cfg in (1.0, 2.0):
        latents = generate(task.release().eval(), prompts, seed=0, steps=20, cfg=cfg, batch=64, decode=False).latents
        found = torch.fft.rfft(latents, dim=2).abs().sum(1)[:, 1:8:2].argmax(1)
        right.append(f"{100 * float((found == kinds).float().mean()):.1f} % with cfg {cfg:g}")
    print(
        f"  loss of the last 50 steps {reached:.3f}; of 256 items {' and '.join(right)} are of their class", flush=True
    )


# --- the command ---------------------------------------------------------------------------------------------


def command() -> None:
    words = [sys.executable, "-m", "audio_gen"]
    start = statistics.median(cost(*words, "--help").seconds for _ in range(7))
    print(f"audio-gen --help: {start:.3f} CPU s, median of 7")
    if not SHIPPED["default"].exists():
        print("there is no model in the wheel")
        return
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "clip.wav"
        used = cost(*words, "generate", "--seconds", "5", "--seed", "1", "--quiet", "-o", out)
    print(f"a clip of 5 s by the model in the wheel: {used.seconds:.1f} CPU s, {used.megabytes:.0f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="of which the fastest counts (default: 3)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    memory()
    steps(args.rounds)
    codes(args.rounds)
    learn()
    command()


if __name__ == "__main__":
    main()
