"""The discriminators of the original and the losses between them and the codec, against its stored outputs."""

from pathlib import Path

import pytest
import torch
from audio_core.loss.adversarial import feature_matching, hinge_discriminator, hinge_generator
from audio_core.nn.discriminate import DiscriminatorOutput, Discriminators
from audio_core.testing import Case, check_gradients, close, noise, tone
from audio_soundstream.discriminators import WaveDiscriminator
from audio_soundstream.original import PowerMelLoss, SwappedSTFTDiscriminator

FIXTURES = Path(__file__).parent / "fixtures"
NAMES = (  # the original's, ours
    ("wave_disc.discriminators.", "discriminators.wave.scales."),
    ("stft_disc.initial_conv.", "discriminators.stft.first."),
    ("stft_disc.blocks.", "discriminators.stft.blocks.layers."),
    ("stft_disc.final_conv.", "discriminators.stft.blocks.last."),
    (".convs.", ".layers."),
    (".final_conv.", ".last."),
)


def our_name(theirs: str) -> str:
    """`wave_disc.discriminators.0.convs.1.bias` -> `discriminators.wave.scales.0.layers.1.bias`."""
    for old, new in NAMES:
        theirs = theirs.replace(old, new)
    return theirs


def discriminators(case: Case, prefix: str = "") -> Discriminators:
    """The original's pair with the weights of a case; a case of one discriminator leaves the other as it is."""
    pair = Discriminators(wave=WaveDiscriminator(), stft=SwappedSTFTDiscriminator())
    state = {our_name(prefix + name): value for name, value in case.state().items()}
    missing, unexpected = pair.load_state_dict(state, strict=False)
    assert not unexpected and (prefix or not missing)
    return pair


def near(actual: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-4)


def check_features(features: list[torch.Tensor], case: Case, stem: str) -> None:
    assert len(features) == 6
    for place, feature in enumerate(features):
        name = f"{stem}{place}"
        assert list(feature.shape) == case.outputs[f"{name}_shape"].tolist()
        each = feature.transpose(0, 1).flatten(1)  # by channel
        near(torch.stack([each.mean(1), each.abs().mean(1), each.std(1, correction=0)]), case.outputs[f"{name}_stats"])
        if name in case.outputs:
            near(feature, case.outputs[name])


@torch.no_grad()
def test_the_wave_discriminator_is_the_original_s():
    case = Case.load(FIXTURES / "disc_wave")
    discriminator = discriminators(case, "wave_disc.").discriminators["wave"]
    output = discriminator(case.inputs["x"])
    for scale, logits in enumerate(output.logits):
        near(logits, case.outputs[f"logits_{scale}"])
        check_features(output.features[scale], case, f"feature_{scale}_")
    assert len(output.logits) == 3
    assert [logits.shape[-1] for logits in discriminator(torch.zeros(1, 1, 48000)).logits] == [188, 94, 47]


@torch.no_grad()
def test_the_stft_discriminator_is_the_original_s_with_its_axes_swapped():
    case = Case.load(FIXTURES / "disc_stft")
    (logits,), (features,) = discriminators(case, "stft_disc.").discriminators["stft"](case.inputs["x"])
    near(logits, case.outputs["logits"])
    check_features(features, case, "feature_")


@pytest.fixture(scope="module")
def combined() -> tuple[Case, Discriminators, DiscriminatorOutput, DiscriminatorOutput]:
    case = Case.load(FIXTURES / "disc_combined_losses")
    pair = discriminators(case)
    with torch.no_grad():
        return case, pair, pair(case.inputs["real"]), pair(case.inputs["fake"])


def test_the_discriminators_are_as_large_as_the_original_s(combined):
    sizes = [
        sum(p.numel() for p in discriminator.parameters()) for discriminator in combined[1].discriminators.values()
    ]
    assert sizes == [3 * 5_637_953, 2_792_257] and sum(sizes) == 19_706_116


def test_verdicts_and_losses_of_a_training_step_are_the_original_s(combined):
    case, _, real, fake = combined
    for side, output in (("real", real), ("fake", fake)):
        for place, logits in enumerate(output.logits):
            near(logits, case.outputs[f"{side}_logits_{place}"])
    spot, fool = hinge_discriminator(real.logits, fake.logits), hinge_generator(fake.logits)
    matched = feature_matching(real.features, fake.features)
    rebuilt = PowerMelLoss(case.config["sample_rate"])(case.inputs["fake"], case.inputs["real"])
    near(spot, case.outputs["disc_loss"])
    near(fool, case.outputs["adv_loss"])
    near(matched, case.outputs["feat_loss"])
    near(rebuilt, case.outputs["rec_loss"])
    weights = (case.config[f"lambda_{name}"] for name in ("adv", "feat", "rec"))
    total = sum(weight * loss for weight, loss in zip(weights, (fool, matched, rebuilt), strict=True))
    near(total, case.outputs["total_loss"])


# --- what only the original computes ---------------------------------------------------------------------------


def test_the_power_mel_loss_is_the_original_s_with_its_gradient():
    case = Case.load(FIXTURES / "losses_24k")
    estimate, target = case.inputs["pred"].requires_grad_(), case.inputs["target"]
    loss = PowerMelLoss(24000)(estimate, target)
    loss.backward()
    close(loss, case.outputs["spectral_loss"], 1e-6)
    close(estimate.grad, case.outputs["grad_pred"], 1e-5)
    for window in case.config["window_lengths"]:
        magnitude, log = PowerMelLoss(24000, [window], log=0), PowerMelLoss(24000, [window], magnitude=0)
        close(magnitude(estimate, target), case.outputs[f"mag_l1_{window}"], 1e-6)
        close(log(estimate, target), case.outputs[f"log_mse_{window}"], 1e-5)
        empty = (magnitude.mels[0].filters.sum(1) == 0).sum()
        assert empty == case.outputs[f"empty_mel_filters_{window}"]
        if f"mel_pred_{window}" in case.outputs:
            # The original's filters have corners in float32, up to 6e-6 off.
            close(magnitude.mels[0](estimate[0]), case.outputs[f"mel_pred_{window}"], 1e-5)


def test_the_power_mel_loss_is_zero_for_equal_signals_and_its_gradient_finite_also_from_silence():
    loss, x, silence = PowerMelLoss(24000), noise(1, 0.25)[None], torch.zeros(1, 1, 4000)
    assert loss(silence, silence) == 0 == loss(x, x)
    for start in (silence, x):
        estimate = start.clone().requires_grad_()
        loss(estimate, tone(440, 0.25)[None]).backward()
        assert estimate.grad.isfinite().all()
    assert estimate.grad.any()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = loss(x, tone(440, 0.25)[None])
    assert torch.equal(half, loss(x, tone(440, 0.25)[None]))
    with pytest.raises(ValueError, match=r"\(1, 1, 4000\) and target \(1, 2, 4000\)"):
        loss(x, torch.zeros(1, 2, 4000))


@torch.no_grad()
def test_a_click_moves_all_logits_of_the_discriminator_with_swapped_axes():
    discriminator, calm = SwappedSTFTDiscriminator(width=4), noise(4, 2.0)[None]
    clicked = calm.clone()
    clicked[..., 16000] += 1000
    before, after = (discriminator(x).logits[0] for x in (calm, clicked))
    assert before.shape == (1, 1, 64) and ((after - before).abs() > 1e-6).all()
    assert discriminator(torch.randn(1, 1, 16128)).logits[0].shape == (1, 1, 64)
    with pytest.raises(ValueError, match="at least 16128 samples, got 16127"):
        discriminator(torch.randn(1, 1, 16127))


def test_the_discriminator_with_swapped_axes_sees_each_item_alone_and_every_weight_learns():
    class Score(torch.nn.Module):
        """Logits and features as one tensor (B, N)."""

        def __init__(self):
            super().__init__()
            self.discriminator = SwappedSTFTDiscriminator(width=4, hop=64)

        def forward(self, audio):
            logits, features = self.discriminator(audio)
            return torch.cat([x.flatten(1) for x in [*logits, *(x for each in features for x in each)]], 1)

    discriminator, audio = Score(), torch.stack([noise(seed, 0.3) for seed in (1, 2)])
    with torch.no_grad():
        together = discriminator(audio)
        for item, alone in enumerate(audio.split(1)):
            close(discriminator(alone)[0], together[item], 1e-5)
    check_gradients(discriminator, audio)
