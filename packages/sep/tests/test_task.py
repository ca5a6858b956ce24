"""A step of learning: losses, schedule, mixtures and targets of the original, and six of its steps."""

import pytest
import torch
from audio_core import config
from audio_core.files import InputError
from audio_core.testing import close
from audio_core.train.optimize import Adam, AdamW
from audio_sep.config import MobileNetSubbandTimeConfig
from audio_sep.loss import loss
from audio_sep.models import MODELS
from audio_sep.original import original_name
from audio_sep.recipe import Recipe, WarmStaircase
from audio_sep.task import mixture_and_targets, one_target_each


@pytest.mark.parametrize("kind", ["l1_wav", "l1_wav_l1_sp", "l1_wav_l1_compressed_sp"])
def test_losses_and_their_gradients_equal_the_original(stored_case, kind):
    case = stored_case("losses")
    output = case.inputs["output"].requires_grad_()
    value = loss(kind, output, case.inputs["target"])
    assert value.item() == pytest.approx(case.outputs[kind].item(), rel=1e-5)
    value.backward()
    assert output.grad.square().mean().sqrt().item() == pytest.approx(case.outputs[f"grad_rms_{kind}"].item(), rel=1e-4)
    close(output.grad[0, 0, 5000:5200], case.outputs[f"grad_{kind}"], 2e-4 if "compressed" in kind else 1e-5)


def test_losses_with_spectra_have_gradients_in_silence():
    silence = torch.zeros(1, 2, 4000, requires_grad=True)
    loss("l1_wav_l1_compressed_sp", silence, torch.zeros(1, 2, 4000)).backward()
    assert silence.grad.isfinite().all()


def test_the_schedule_equals_the_original(stored_case):
    case = stored_case("lr_schedule")
    schedule = WarmStaircase(warmup=case.config["warm_up_steps"], every=case.config["reduce_lr_steps"])
    factors = [schedule(step) for step in case.inputs["step"].tolist()]
    assert factors == pytest.approx(case.outputs["factor"].tolist(), abs=1e-12)
    assert WarmStaircase(warmup=0)(0) == 1


def test_mixtures_and_targets_equal_the_original(stored_case):
    case = stored_case("preprocessors")
    plain = case.config["MixtureTarget"]
    inputs, target = mixture_and_targets(case.inputs, plain["input"], plain["target"])
    close(inputs[0], case.outputs["mixture"], 1e-6)
    assert torch.equal(target.flatten(1, 2), case.outputs["target"])
    conditional = case.config["MixtureTargetConditional"]
    (mixed, condition), target = one_target_each(case.inputs, conditional["input"], conditional["target"])
    close(mixed, case.outputs["conditional_mixture"], 1e-6)
    assert torch.equal(condition, case.outputs["condition"])
    assert torch.equal(target[:, 0], case.outputs["conditional_target"])


def test_six_steps_of_training_equal_the_original(stored_case):
    """Chaos widens the differences from step to step; the tolerances are those of other correct transforms."""
    case = stored_case("mobilenet_train_steps")
    model = MODELS["MobileNetSubbandTime"](MobileNetSubbandTimeConfig())
    state = case.state()
    tensors = {original_name(name): tensor for name, tensor in model.state_dict().items()}
    with torch.no_grad():
        for name, tensor in tensors.items():
            if name in state:
                tensor.copy_(state[name])
    assert {*state} <= {*tensors}
    model.train()
    recipe = Recipe()
    optimizer = recipe.optimizer.build(model.parameters())
    schedule = WarmStaircase(warmup=case.config["schedule"]["warm_up_steps"])
    losses = []
    for step in range(6):
        for group in optimizer.param_groups:
            group["lr"] = recipe.optimizer.lr * schedule(step)
        assert optimizer.param_groups[0]["lr"] == pytest.approx(case.outputs["learning_rates"][step].item())
        estimate = model(case.inputs["mixture"])[:, 0]
        value = loss("l1_wav", estimate, case.inputs["target"])
        losses.append(value.item())
        optimizer.zero_grad()
        value.backward()
        if step == 0:
            gradients = {original_name(name): weight.grad for name, weight in model.named_parameters()}
            for name, expected in case.outputs.items():
                if name.startswith("first_grad."):
                    late = "after_conv2" in name or "decoder_block6" in name
                    close(gradients[name.removeprefix("first_grad.")], expected, 1e-2 if late else 1e-1)
        optimizer.step()
    for step, tolerance in enumerate((5e-5, 5e-5, 3e-3, 3e-2, 3e-2, 3e-2)):
        assert losses[step] == pytest.approx(case.outputs["losses"][step].item(), rel=tolerance)
    noise = estimate[..., ::2] - case.outputs["last_step_output"]
    assert 10 * torch.log10(case.outputs["last_step_output"].square().sum() / noise.square().sum()) > 6
    for name, tolerance in (
        ("bn0.running_mean", 1e-5),
        ("bn0.running_var", 1e-5),
        ("encoder_block1.conv_block.bn1a.running_mean", 3e-4),
        ("decoder_block1.bn1.running_var", 1e-1),
        ("after_conv2.bias", 5e-2),
        ("after_conv2.weight", 5e-2),
    ):
        close(tensors[name], case.outputs[f"after.{name}"], tolerance)


def test_the_optimizer_is_the_originals():
    """Six steps would not tell another beta, nor amsgrad."""
    optimizer = Recipe().optimizer
    assert optimizer == Adam(lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, amsgrad=True)
    assert not isinstance(optimizer, AdamW)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": {"sources": ["drums"]}}, "model.sources: drums is none of data.inputs, vocals, accompaniment"),
        ({"data": {"augment": {"vocal": {}}}}, "augment: vocal is none of the inputs"),
        ({"data": {"inputs": ["vocals"]}}, "two or more different sources"),
        ({"data": {"remix": False, "augment": {"vocals": {"pitch": 1}}}}, "pitch would part them"),
        ({"data": {"remix": False, "augment": {"vocals": {"mix": 2}}}}, "need the same mix"),
        ({"data": {"seconds": 0.02}}, "the spectra need 964 samples, 0.02 s have 882"),
        ({"data": {"seconds": 0.022}, "loss": "l1_wav_l1_sp"}, "the spectra need 1025 samples"),
        ({"data": {"augment": {"vocals": {"gain_db": [3, 0]}}}}, "lower end first"),
        ({"data": {"augment": {"vocals": {"mix": 0}}}}, "mix is 1 or more"),
        ({"data": {"valid_db": []}}, "at least one level"),
        ({"model": {"kind": "ConditionalUNet"}, "batch": 3}, "batch must be a multiple of 2"),
        ({"average": 1}, "average is from 0 to below 1"),
        ({"loss": "l1"}, "did you mean l1_wav"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        config.build(Recipe, settings)
