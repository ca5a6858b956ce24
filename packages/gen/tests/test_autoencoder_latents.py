"""Diffusion autoencoders that diffuse in the latents of a codec, with an encoder that learns on these."""

import copy
import json
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from audio_core import audio, config, latents
from audio_core import codec as codecs
from audio_core.files import InputError
from audio_core.latents import Latents
from audio_core.testing import close, noise
from audio_gen import PACKAGE, load, model_config, original
from audio_gen.cli import main
from audio_gen.config.backbones import DiTConfig
from audio_gen.config.conditioners import CodecSource
from audio_gen.config.diffusion_autoencoder import DiffusionAutoencoderConfig, LatentsConfig, PartConfig
from audio_gen.config.sampling import VSampling
from audio_gen.cost import describe
from audio_gen.data import Batch
from audio_gen.losses import SpectralDistance
from audio_gen.models.diffusion_autoencoder import DiffusionAutoencoder
from audio_gen.recipe import Recipe
from audio_gen.task import learning
from audio_gen.train import train

from . import toys
from .toys import FRAMES, HOP, RATE, WIDTH, ToyCodec

LENGTH = FRAMES * HOP
LATENTS = LatentsConfig(codec=CodecSource(name="toy"), hop=HOP, channels=WIDTH, scale=0.5)
PARTS = {"encoder": PartConfig(type="frames", config={"channels": WIDTH, "hop": 2, "width": 3})}


@pytest.fixture(autouse=True)
def offered(tmp_path_factory, monkeypatch):
    toys.offer_encoders(tmp_path_factory.mktemp("installed"), monkeypatch)
    find = codecs.find
    monkeypatch.setattr(codecs, "find", lambda name, *group: find(name, *group) if group else ToyCodec)


def settings_of(**latents):
    return DiffusionAutoencoderConfig(
        rate=RATE,
        channels=1,
        samples=LENGTH,
        hop=2,
        code_channels=3,
        encoder=replace(toys.ENCODER, parts=PARTS),
        latents=replace(LATENTS, **latents),
        backbone=DiTConfig(io_channels=WIDTH, embed_dim=32, depth=1, num_heads=1, input_concat_dim=3),
        sampling=VSampling(sampler="v-ddim", steps=3),
    )


def built(**latents):
    torch.manual_seed(1)
    return DiffusionAutoencoder(settings_of(**latents)).eval()


def sound(*indices):
    return torch.stack([0.3 * noise(at, LENGTH / RATE, RATE) for at in indices])


# --- audio and codes ---------------------------------------------------------------------------------------------


@torch.no_grad()
def test_the_encoder_takes_latents_and_the_codec_makes_audio_of_the_result():
    model, recording = built(), sound(0, 1)
    scaled = ToyCodec().encode(recording) / 0.5
    close(model.signal(recording), scaled)
    code = model.encode(recording)
    close(code, model.encoder(scaled)[0])
    assert code.shape == (2, 3, FRAMES // 2)
    condition = model.condition(code, FRAMES)
    assert torch.equal(condition, F.interpolate(code, FRAMES, mode="nearest"))
    assert model.decode(code).shape == (2, 1, LENGTH) and model.decode(code, 95).shape == (2, 1, 95)
    assert model.config.most == LENGTH and "codec" not in "".join(model.state_dict())


class Knowing(torch.nn.Module):
    """The v of given latents."""

    def __init__(self, latents):
        super().__init__()
        self.latents = latents

    def forward(self, x, t, input_concat_cond):
        angle = (t * torch.pi / 2)[:, None, None]
        noise = (x - angle.cos() * self.latents) / angle.sin()
        return angle.cos() * noise - angle.sin() * self.latents


@torch.no_grad()
def test_decoding_ends_in_the_audio_of_the_latents():
    model = built()
    wanted = ToyCodec().encode(sound(0))
    model.backbone = Knowing(wanted / 0.5)
    close(model.decode(torch.zeros(1, 3, FRAMES // 2)), ToyCodec().decode(wanted), 1e-5)


@torch.no_grad()
def test_without_a_codec_there_is_no_audio():
    model = built(codec=None)
    for call, value in ((model.encode, sound(0)), (model.decode, torch.zeros(1, 3, 20))):
        with pytest.raises(InputError, match=r"latents\.codec: this model has none"):
            call(value)


def test_another_codec_is_refused():
    with pytest.raises(InputError, match="codec toy default: has a hop of 10, and the model needs 5"):
        built(hop=5).encode(sound(0))
    with pytest.raises(InputError, match="is another codec"):
        built(codec=CodecSource(name="toy", fingerprint=b"another!".hex())).encode(sound(0))


def test_what_it_costs_counts_frames_of_latents():
    facts = describe(settings_of())
    assert facts["frames"] == FRAMES and facts["frames_per_second"] == RATE / (2 * HOP)


def test_settings_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="latents: only an encoder of its own"):
        replace(settings_of(), encoder=None)
    with pytest.raises(ValueError, match="backbone has 4 channels, and the latents 5"):
        settings_of(channels=5)
    with pytest.raises(ValueError, match="scale must be above 0"):
        settings_of(scale=0.0)


# --- learning ----------------------------------------------------------------------------------------------------


def plan(root, **settings):
    model = {"kind": "DiffusionAutoencoder", **config.plain(settings_of(**settings.pop("latents", {})))}
    values = {"data": {"root": str(root), "held_out": 0}, "model": model, "average": 0.0, "batch": 4, "workers": 0}
    return config.build(Recipe, {**values, "steps": 3, **settings})


@pytest.fixture
def sounds(tmp_path):
    for at in range(4):
        audio.write(tmp_path / f"in/{at}.wav", sound(at)[0].numpy(), RATE)
    return tmp_path / "in"


def test_a_run_on_audio_ends_in_a_bundle_that_knows_its_codec(sounds, tmp_path):
    train(plan(sounds), tmp_path / "run", "cpu", quiet=True)
    model = load(tmp_path / "run")
    assert model.config.latents.codec.fingerprint == b"toycodec".hex()
    line = ["reconstruct", str(sounds / "0.wav"), "-o", str(tmp_path / "out.wav"), "--model", str(tmp_path / "run")]
    assert main([*line, "--seed", "3", "--quiet"]) == 0
    assert audio.read(tmp_path / "out.wav").samples.shape == (1, LENGTH)
    train(plan(sounds, start=str(tmp_path / "run/bundle")), tmp_path / "more", "cpu", quiet=True)


def test_latents_that_were_made_before_do_as_well(sounds, tmp_path):
    for at in range(4):
        values = ToyCodec().encode(sound(at))[0].numpy()
        item = Latents(values, RATE, HOP, LENGTH, 1, b"toycodec", {})
        (tmp_path / "items").mkdir(exist_ok=True)
        latents.save(tmp_path / f"items/{at}.safetensors", item)
    train(plan(tmp_path / "items"), tmp_path / "run", "cpu", quiet=True)
    assert load(tmp_path / "run").config.latents.codec.fingerprint == b"toycodec".hex()
    with pytest.raises(InputError, match="reconstruction: compares audio"):
        train(plan(tmp_path / "items", latents={"reconstruction": 0.1}), tmp_path / "no", "cpu", quiet=True)


def test_the_estimate_may_be_compared_as_audio():
    model = built(reconstruction=0.1).train()
    with torch.no_grad():
        for at, parameter in enumerate(model.parameters()):
            parameter += 0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(at))
    task = learning(Recipe(model=model.config, average=0.0), model, encodes=True)
    task.player.join(Accelerator(cpu=True))
    task.player.update = lambda loss: loss.backward()
    real = torch.ones(2, FRAMES, dtype=torch.bool)
    metrics = task.step(Batch(torch.arange(2), sound(0, 1), real, [{}, {}]), 0)
    assert [*metrics] == ["loss", "mse", "kl", "spectral", "latent_std"]
    total = metrics["mse"] + 0.01 * metrics["kl"] + 0.1 * metrics["spectral"]
    torch.testing.assert_close(metrics["loss"], total)
    model.backbone = Knowing(model.signal(sound(0, 1)))  # whose estimate is what the codec keeps of the audio
    known = task.step(Batch(torch.arange(2), ToyCodec().decode(ToyCodec().encode(sound(0, 1))), real, [{}, {}]), 0)
    assert metrics["spectral"] > 0.1 and known["spectral"] < 1e-3


def test_the_distance_of_spectrograms_knows_loudness_and_sides():
    left, right = (noise(at, 0.1, 44100) for at in range(2))
    stereo, distance = torch.stack([left, right], 1), SpectralDistance(4410)
    assert len(distance.stfts) == 7 and len(SpectralDistance(100).stfts) == 2
    assert float(distance(stereo, stereo)) == 0
    louder = float(distance(2 * stereo, stereo))
    assert louder == pytest.approx(1 + 0.6931, abs=0.01)  # |2 Y - Y| / |Y|, and ln 2
    swapped = stereo.flip(1)  # has the same sum, and a difference of the same magnitudes
    assert float(distance(swapped, stereo)) < 1e-4 < float(distance(stereo.roll(100, 2), stereo))


# --- checkpoints -------------------------------------------------------------------------------------------------


STATED = {
    "model_type": "diffusion_autoencoder",
    **{"sample_size": LENGTH, "sample_rate": RATE, "audio_channels": 1},
    "model": {
        "pretransform": {
            "type": "autoencoder",
            "scale": 0.5,
            "config": {"io_channels": 1, "downsampling_ratio": HOP, "latent_dim": WIDTH},
        },
        "encoder": {"type": "frames", "config": {"channels": WIDTH, "hop": 2, "width": 3}},
        "diffusion": {
            "type": "dit",
            "config": {"io_channels": WIDTH, "embed_dim": 32, "depth": 1, "num_heads": 1, "input_concat_dim": 3},
        },
        **{"latent_dim": 3, "downsampling_ratio": 2, "io_channels": WIDTH},
    },
    "training": {"learning_rate": 1e-4, "use_reconstruction_loss": True},
}
TOY = ["encoder.name=toy", "latents.codec.name=toy"]


def test_a_checkpoint_is_converted_beside_its_codec(tmp_path):
    model = built()
    state = {"diffae.pretransform.model.encoder.weight": torch.ones(1)}
    for name, value in model.state_dict().items():
        name = name.replace(".ff.up.", ".ff.ff.0.proj.").replace(".ff.down.", ".ff.ff.2.")
        name = name.replace("encoder.layer.", "encoder.").replace("backbone.", "diffusion.model.")
        state[f"diffae.{name}"] = value.clone()
    (tmp_path / "model_config.json").write_text(json.dumps(STATED))
    torch.save({"state_dict": state}, tmp_path / "a.ckpt")
    converted = original.convert(tmp_path / "a.ckpt", TOY)
    assert converted.config.latents == replace(
        LATENTS, codec=CodecSource(name="toy", fingerprint=b"toycodec".hex()), reconstruction=0.1
    )
    PACKAGE.save(converted, tmp_path / "bundle", "")
    with torch.no_grad():
        close(load(tmp_path / "bundle").encode(sound(0)), model.encode(sound(0)))
    assert original.convert(tmp_path / "a.ckpt", [TOY[0], "latents.codec=null"]).config.latents.codec is None
    with pytest.raises(InputError, match=r"here: latents\.codec\.name=codec-vae latents\.codec\.path=codec; or"):
        original.convert(tmp_path / "a.ckpt", TOY[:1])


def test_a_configuration_says_how_it_was_learnt():
    stated = model_config.understood(STATED)
    assert stated.has_codec and stated.model["latents"]["reconstruction"] == 0.1 and not stated.remarks
    changed = copy.deepcopy(STATED)
    changed["model"]["io_channels"] = 5
    with pytest.raises(InputError, match=r"model\.io_channels: is 5, for latents with 4 channels"):
        model_config.understood(changed)
    del changed["model"]["pretransform"]
    changed["model"]["io_channels"] = 1
    (remark,) = model_config.understood(changed).remarks
    assert remark.startswith("training.use_reconstruction_loss: is left out")
