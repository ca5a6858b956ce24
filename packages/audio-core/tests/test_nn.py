import warnings
from fractions import Fraction
from itertools import product
from pathlib import Path

import pytest
import torch
from audio_core.nn.conv import Conv1d, ConvTranspose1d
from audio_core.nn.residual import Residual, ResidualUnit
from audio_core.nn.snake import Snake, SnakeBeta
from audio_core.nn.stream import Sequential
from audio_core.testing import Case, close
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

FIXTURES = Path(__file__).parent / "fixtures"
CHUNKINGS = [[1], [2], [5], [37], [97], [0, 3, 1]]  # sizes of the pieces, repeated


def streamed(layer, x, sizes, ending="flush"):
    """The pieces that `layer` gives for pieces of x, the end announced alone ("flush") or with the last piece."""
    state, outputs, position, turn = layer.start(x.shape[0]), [], 0, 0
    while position < x.shape[-1]:
        chunk = x[..., position : position + sizes[turn % len(sizes)]]
        position, turn = position + chunk.shape[-1], turn + 1
        done = ending == "with" and position == x.shape[-1]
        output, state = layer.stream(chunk, state, last=done)
        outputs.append(output)
    if ending == "flush":
        outputs.append(layer.stream(x[..., :0], state, last=True)[0])
    return outputs


@torch.no_grad()
def check_stream(layer, x, chunkings=CHUNKINGS):
    """Any chunking gives what `forward` gives, to 1e-6 of the peak."""
    whole = layer(x)
    for turn, sizes in enumerate(chunkings):  # both endings have their turn
        close(torch.cat(streamed(layer, x, sizes, ("flush", "with")[turn % 2]), -1), whole, 1e-6)


# Lengths and values of convolutions


@pytest.mark.parametrize("kernel", [1, 2, 3, 7, 8])
@pytest.mark.parametrize("dilation", [1, 3, 9])
def test_same_and_causal_keep_the_length_up_to_the_stride(kernel, dilation):
    for stride, length, padding in product((1, 2, 3, 4), (90, 97), ("same", "causal")):
        x = torch.randn(1, 2, length)
        assert Conv1d(2, 3, kernel, stride, dilation, padding)(x).shape == (1, 3, -(-length // stride))
        assert ConvTranspose1d(2, 3, kernel, stride, dilation, padding)(x).shape == (1, 3, length * stride)


def test_same_padding_is_torch_s():
    for kernel, dilation in product((1, 2, 3, 8), (1, 3)):
        ours, x = Conv1d(2, 3, kernel, dilation=dilation), torch.randn(1, 2, 40)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch remarks that even kernels cost it a copy
            expected = nn.functional.conv1d(x, ours.weight, ours.bias, padding="same", dilation=dilation)
        close(ours(x), expected)


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "extra"), [(8, 4, 2, 3), (10, 5, 3, 1), (3, 1, 1, 0), (2, 4, 0, 2)]
)
def test_explicit_padding_is_torch_s(kernel, stride, padding, extra):
    x = torch.randn(2, 4, 31)
    ours = Conv1d(4, 6, kernel, stride, padding=padding, groups=2)
    expected = nn.Conv1d(4, 6, kernel, stride, padding, groups=2)
    expected.load_state_dict(ours.state_dict())
    close(ours(x), expected(x), 1e-6)
    ours = ConvTranspose1d(4, 6, kernel, stride, padding=padding, output_padding=extra, groups=2)
    expected = nn.ConvTranspose1d(4, 6, kernel, stride, padding, extra, groups=2)
    expected.load_state_dict(ours.state_dict())
    close(ours(x), expected(x), 1e-6)


@pytest.mark.parametrize("layer", [Conv1d(1, 1, 5, 2, 3, "causal"), ConvTranspose1d(1, 1, 6, 2, padding="causal")])
def test_a_causal_layer_never_sees_the_future(layer):
    x = torch.randn(1, 1, 60, requires_grad=True)
    here = 20
    layer(x)[0, 0, int(here * layer.ratio)].backward()
    assert x.grad[0, 0, here] != 0 and not x.grad[0, 0, here + 1 :].any()
    assert layer.delay == 0


def test_impossible_layers_and_inputs_say_what_is_wrong():
    with pytest.raises(ValueError, match='"same", "causal", a number or'):
        Conv1d(1, 1, 3, padding="valid")
    with pytest.raises(ValueError, match="not negative"):
        Conv1d(1, 1, 3, padding=(-1, 0))
    with pytest.raises(ValueError, match="output_padding must stay below"):
        ConvTranspose1d(1, 1, 4, 2, padding=0, output_padding=2)
    with pytest.raises(ValueError, match="at least 7 samples, got 6"):
        Conv1d(1, 1, 7, padding=0)(torch.zeros(1, 1, 6))
    with pytest.raises(ValueError, match="2 samples in leave none"):
        ConvTranspose1d(1, 1, 2, padding=2)(torch.zeros(1, 1, 2))


# Streams


@pytest.mark.parametrize("kernel", [1, 2, 3, 8])
@pytest.mark.parametrize("stride", [1, 2, 4])
def test_a_stream_equals_the_whole(kernel, stride):
    x = torch.randn(2, 2, 67)
    for dilation, padding in product((1, 9), ("same", "causal", 2, (9, 0), (0, 5))):
        check_stream(Conv1d(2, 2, kernel, stride, dilation, padding), x)
        check_stream(ConvTranspose1d(2, 2, kernel, stride, dilation, padding), x)
        extra = max(stride, dilation) - 1
        if isinstance(padding, int):
            check_stream(ConvTranspose1d(2, 2, kernel, stride, dilation, padding, extra, bias=False), x)


@settings(deadline=None, max_examples=100)
@given(data=st.data())
def test_a_stream_equals_the_whole_for_wild_layers(data):
    def draw(low, high):
        return data.draw(st.integers(low, high))

    kernel, stride, dilation, groups = draw(1, 9), draw(1, 6), draw(1, 4), draw(1, 2)
    span, pads = (kernel - 1) * dilation + 1, (draw(0, 12), draw(0, 12))
    x = torch.randn(draw(1, 2), 2, draw(1, 50))
    sizes = data.draw(st.lists(st.integers(0, 11), min_size=1, max_size=5).filter(any))
    options = {"groups": groups, "bias": data.draw(st.booleans()), "weight_norm": data.draw(st.booleans())}
    if x.shape[-1] + sum(pads) >= span:
        check_stream(Conv1d(2, 4, kernel, stride, dilation, pads, **options), x, [sizes])
    extra = draw(0, max(stride, dilation) - 1)
    if (x.shape[-1] - 1) * stride + span + extra > sum(pads):
        check_stream(ConvTranspose1d(2, 4, kernel, stride, dilation, pads, extra, **options), x, [sizes])


def test_an_output_comes_as_soon_as_its_delay_has_passed():
    for layer in (
        Conv1d(1, 1, 7, dilation=3), Conv1d(1, 1, 8, padding=(2, 5)), Conv1d(1, 1, 5, padding="causal"),
        ConvTranspose1d(1, 1, 7), ConvTranspose1d(1, 1, 3, padding=(0, 2)), ConvTranspose1d(1, 1, 2, padding=(1, 3)),
    ):  # fmt: skip
        x = torch.randn(1, 1, 60)
        counts = [output.shape[-1] for output in streamed(layer, x, [1])][:-1]
        lengths = [sum(counts[: n + 1]) for n in range(50)]
        assert lengths == [max(0, n + 1 - layer.delay) for n in range(50)], layer


def test_streams_of_one_layer_do_not_disturb_each_other():
    layer = Conv1d(2, 2, 7, 2)
    a, b = torch.randn(1, 2, 40), torch.randn(1, 2, 40)
    with torch.no_grad():
        first, second = layer.start(), layer.start()
        pieces = {0: [], 1: []}
        for at in range(0, 40, 5):
            out, first = layer.stream(a[..., at : at + 5], first, last=at == 35)
            pieces[0].append(out)
            out, second = layer.stream(b[..., at : at + 5], second, last=at == 35)
            pieces[1].append(out)
        close(torch.cat(pieces[0], -1), layer(a), 1e-6)
        close(torch.cat(pieces[1], -1), layer(b), 1e-6)


def test_a_stream_can_be_trained_through():
    layer, x = ConvTranspose1d(2, 2, 8, 4), torch.randn(1, 2, 20)
    layer(x).square().sum().backward()
    expected = layer.weight.grad.clone()
    layer.zero_grad()
    torch.cat(streamed(layer, x, [3]), -1).square().sum().backward()
    close(layer.weight.grad, expected, 1e-5)


# Whole codecs of streaming layers


@torch.no_grad()
def one_by_one(layer, x, at_once=1):
    """How much comes for the first `at_once` samples, for each single one after them, and for the end of the stream."""
    pieces = streamed(layer, x, [at_once, *[1] * (x.shape[-1] - at_once)])
    close(torch.cat(pieces, -1), layer(x), 1e-6)
    return [piece.shape[-1] for piece in pieces]


def soundstream(width=2, code=4):
    """SoundStream's layers: causal, except that its transposed convolutions look ahead."""

    def residuals(channels):
        return [
            Residual(Conv1d(channels, channels, 7, 1, d, "causal"), nn.ELU(), Conv1d(channels, channels, 1))
            for d in (1, 3, 9)
        ]

    down, up = [Conv1d(1, width, 7, padding="causal")], [Conv1d(code, width, 7, padding="causal")]
    for stride in (2, 4, 5, 8):
        down += [*residuals(width), Conv1d(width, width, 2 * stride, stride, padding="causal"), nn.ELU()]
    for stride in (8, 5, 4, 2):
        up += [ConvTranspose1d(width, width, 2 * stride, stride, padding=stride // 2), nn.ELU(), *residuals(width)]
    down += [Conv1d(width, code, 3, padding="causal")]
    up += [Conv1d(width, 1, 7, padding="causal")]
    return Sequential(*down), Sequential(*up)


def test_soundstream_streams_with_the_delay_that_was_measured_on_the_original():
    encoder, decoder = soundstream()
    assert (encoder.ratio, encoder.delay) == (Fraction(1, 320), 0)
    assert (decoder.ratio, decoder.delay) == (320, Fraction(181, 320))
    x, codes = torch.randn(2, 1, 1300), torch.randn(2, 4, 5)
    check_stream(encoder, x, [[37], [320], [1300]])
    check_stream(decoder, codes, [[2], [0, 3]])
    frames, samples = one_by_one(encoder, x, 800), one_by_one(decoder, codes)
    assert frames[0] == 3 and [n for n, count in enumerate(frames, 799) if count] == [799, 960, 1280]
    assert samples == [139, 320, 320, 320, 320, 189]


def tinystream(width=2):
    """TinyStream's layers: depthwise and symmetric, its transposed convolutions with output padding."""

    def residuals():
        return [
            Residual(
                Conv1d(width, width, 3, 1, d, padding=d, groups=width, bias=False),
                Conv1d(width, width, 1, bias=False), nn.ReLU(), Conv1d(width, width, 1, bias=False),
            )
            for d in (1, 3, 9)
        ]  # fmt: skip

    down, up = [Conv1d(1, width, 3, padding=1, bias=False), nn.ReLU()], []
    for _ in range(4):
        down += [*residuals(), Conv1d(width, width, 8, 4, padding=2, groups=width, bias=False), nn.ReLU()]
        up += [ConvTranspose1d(width, width, 8, 4, padding=2, output_padding=3, bias=False), nn.ReLU(), *residuals()]
    return Sequential(*down), Sequential(*up, Conv1d(width, 1, 3, padding=1))


def test_tinystream_streams_with_the_delay_that_was_measured_on_the_original():
    encoder, decoder = tinystream()
    assert (encoder.delay, decoder.delay) == (1531, Fraction(1276, 256))
    x, codes = torch.randn(1, 1, 1800), torch.randn(1, 2, 7)
    check_stream(encoder, x, [[37], [1000]])
    check_stream(decoder, codes, [[2], [3]])
    frames, samples = one_by_one(encoder, x, 1500), one_by_one(decoder, codes)
    assert [n for n, count in enumerate(frames[:-1], 1500) if count] == [1532, 1788]
    assert frames[-1] == 5
    assert samples == [0, 0, 0, 0, 4, 256, 256, 1531]


def test_layers_that_cannot_stream_are_refused_when_a_stream_starts():
    with pytest.raises(TypeError, match="GroupNorm cannot stream"):
        Sequential(Conv1d(2, 2, 3), nn.GroupNorm(1, 2)).start()
    with pytest.raises(TypeError, match="Softmax cannot stream"):
        Sequential(nn.Softmax(-1)).start()
    with pytest.raises(ValueError, match="ratio 1 and delay >= 0, got 1/2"):
        Residual(Conv1d(2, 2, 3, 2)).start()


# Activations, residual units, the blocks of LyraCodec


def block(width_in, width_out, stride, transposed=False):
    """LyraCodec's encoder and decoder blocks under its own parameter names."""
    options = {"padding": -(-stride // 2)} | ({"output_padding": stride % 2} if transposed else {})
    kind = ConvTranspose1d if transposed else Conv1d
    units = [ResidualUnit(width_in, dilation=dilation) for dilation in (1, 3, 9)]
    layers = Sequential(*units, SnakeBeta(width_in), kind(width_in, width_out, 2 * stride, stride, **options))
    return nn.ModuleDict({"layers": layers})


@pytest.mark.parametrize("name", ["snake", "res", "enc1", "enc4", "enc5", "dec4", "dec5"])
def test_blocks_are_lyra_codec_s_under_its_own_names(name):
    case = Case.load(FIXTURES / "lyra_blocks")
    builders = {"snake": lambda: SnakeBeta(6), "res": lambda: ResidualUnit(6, dilation=9)}
    stride = int(name[-1]) if name[-1].isdigit() else 1
    builders |= {f"enc{stride}": lambda: block(6, 6 if stride == 1 else 10, stride)}
    builders |= {f"dec{stride}": lambda: block(10, 6, stride, transposed=True)}
    module = builders[name]()
    state = {key.removeprefix(f"{name}."): value for key, value in case.state().items() if key.startswith(f"{name}.")}
    module.load_state_dict(state)
    forward = module["layers"] if isinstance(module, nn.ModuleDict) else module
    x = case.inputs["x10" if name.startswith("dec") else "x6"]
    close(forward(x), case.outputs[name], case.tolerance(name))
    if name != "snake":
        check_stream(forward, x, [[1], [7]])


def test_snake_is_dac_s_and_starts_at_one():
    snake, x = Snake(3), torch.randn(2, 3, 50)
    assert snake.alpha.shape == (1, 3, 1) and torch.equal(snake.alpha, torch.ones(1, 3, 1))
    close(snake(x), x + torch.sin(x) ** 2, 1e-6)
    with torch.no_grad():
        snake.alpha.mul_(2.5)
    close(snake(x), x + torch.sin(2.5 * x) ** 2 / 2.5, 1e-6)


@pytest.mark.parametrize("kind", [Snake, SnakeBeta])
def test_snake_computes_the_same_without_gradients(kind):
    snake, x = kind(3), torch.randn(2, 3, 50)
    given, expected = x.clone(), snake(x)
    with torch.no_grad():
        assert torch.equal(snake(x), expected) and torch.equal(x, given)


def test_a_residual_unit_takes_other_activations_and_causal_padding():
    unit = ResidualUnit(4, kernel=5, dilation=3, padding="causal", activation=lambda _: nn.ELU(), weight_norm=True)
    assert unit.delay == 0
    check_stream(unit, torch.randn(2, 4, 97))
    assert ResidualUnit(4, dilation=9, activation=Snake).delay == 27


@pytest.mark.parametrize(
    "layer",
    [
        Conv1d(1, 1, 5, dilation=3, padding="causal"),
        Conv1d(1, 1, 8, 4, padding=2),
        ConvTranspose1d(1, 1, 8, 4, padding=2),
        ConvTranspose1d(1, 1, 8, 4, padding="causal"),
        Sequential(Conv1d(1, 1, 5, padding=2), Conv1d(1, 1, 8, 4, padding=2), ConvTranspose1d(1, 1, 8, 4, padding=2)),
    ],
    ids=str,
)
def test_no_output_depends_on_inputs_before_its_history_or_beyond_its_delay(layer):
    """The inputs with a gradient are the receptive field; the bounds are reached within two inputs of a chain."""
    before, behind = [], []
    for at in range(layer(torch.zeros(1, 1, 200)).shape[-1] // 2, layer(torch.zeros(1, 1, 200)).shape[-1] // 2 + 8):
        x = torch.zeros(1, 1, 200, requires_grad=True)
        layer(x)[0, 0, at].backward()
        own = at / layer.ratio
        inputs = x.grad[0, 0].nonzero()[:, 0]
        before.append(own - int(inputs[0]))
        behind.append(int(inputs[-1]) - own)
    assert layer.history - 2 <= max(before) <= layer.history + 1
    assert max(behind) <= max(layer.delay, 0) + 1
