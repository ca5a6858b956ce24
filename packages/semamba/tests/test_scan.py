import pytest
import torch
import torch.nn.functional as F
from audio_core.testing import close
from audio_semamba import scan

NAMES = ("u", "delta", "A", "B", "C", "D", "z")


@pytest.fixture(params=["torch", "numba"])
def backend(request, monkeypatch):
    scan.use(request.param)
    yield request.param
    scan.use(None)


@pytest.fixture
def case(stored_case):
    """The stored case with its tensors time-major: (B, D, L) becomes (B, L, D)."""
    case = stored_case("selective_scan")
    for values in (case.inputs, case.outputs):
        for name, value in values.items():
            if value.ndim == 3 and name != "last_state":
                values[name] = value.transpose(1, 2).contiguous()
    return case


def leaves(case) -> dict[str, torch.Tensor]:
    return {name: case.inputs[name].clone().requires_grad_() for name in (*NAMES, "delta_bias")}


def scanned(x: dict[str, torch.Tensor], **options) -> torch.Tensor:
    delta = scan.softplus(x["delta"] + x["delta_bias"])
    return scan.selective_scan(x["u"], delta, *(x[name] for name in NAMES[2:]), **options)


def test_values_and_gradients_are_those_of_the_original_in_float64(case, backend):
    x = leaves(case)
    out = scanned(x)
    out.backward(case.inputs["grad_out"])
    close(out, case.outputs["out"])
    for name, value in x.items():
        close(value.grad, case.outputs[f"grad_{name}"])


def test_a_reversed_scan_is_the_scan_of_flipped_inputs(case, backend):
    x = {name: value.flip(1) if value.ndim == 3 else value for name, value in case.inputs.items()}
    x = {name: x[name].clone().requires_grad_() for name in (*NAMES, "delta_bias")}
    out = scanned(x, reverse=True)
    out.backward(case.inputs["grad_out"].flip(1))
    close(out.flip(1), case.outputs["out"])
    for name, value in x.items():
        close(value.grad.flip(1) if value.ndim == 3 else value.grad, case.outputs[f"grad_{name}"])


def test_a_scan_in_pieces_carries_its_state(case, backend):
    x = case.inputs
    x["delta"] = F.softplus(x["delta"] + x["delta_bias"])
    state, pieces = torch.zeros(2, 16, 40), []
    for piece in torch.arange(80).split([1, 1, 0, 30, 48]):
        inputs = (x[name][:, piece] if x[name].ndim == 3 else x[name] for name in NAMES)
        y, state = scan.selective_scan_stateful(*inputs, state)
        pieces.append(y)
    close(torch.cat(pieces, 1), case.outputs["out"])
    close(state.transpose(1, 2), case.outputs["last_state"])


def convolved(x, weight, bias, reverse):
    """The convolution and its SiLU in float64, by PyTorch's own operations."""
    x, weight = (x.flip(1) if reverse else x).double(), weight.double()
    size = weight.shape[1]
    y = F.silu(F.conv1d(F.pad(x.transpose(1, 2), (size - 1, 0)), weight[:, None], bias.double(), groups=len(weight)))
    return y.transpose(1, 2).flip(1) if reverse else y.transpose(1, 2)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(("length", "width", "size"), [(50, 40, 4), (2, 64, 4), (9, 3, 1)])
def test_the_convolution_is_causal_and_has_the_gradients_of_float64(backend, reverse, length, width, size):
    wide = torch.randn(2, length, 2 * width)  # x is the first half of what a projection returns
    weight, bias = torch.randn(width, size), torch.randn(width)
    grad = torch.randn(2, length, width)
    results = []
    for function in (scan.causal_conv_silu, convolved):
        x = [value.clone().requires_grad_() for value in (wide, weight, bias)]
        y = function(x[0][..., :width], *x[1:], reverse=reverse)
        y.backward(grad.to(y.dtype))
        results.append([y, *(value.grad for value in x)])
    for value, expected in zip(*results, strict=True):
        close(value, expected)


def test_a_convolution_in_pieces_carries_its_inputs(backend):
    x, weight, bias = torch.randn(2, 20, 40), torch.randn(40, 4), torch.randn(40)
    past, pieces = torch.zeros(2, 3, 40), []
    for piece in x.split([1, 1, 0, 10, 8], 1):
        y, past = scan.causal_conv_silu_stateful(piece, weight, bias, past)
        pieces.append(y)
    close(torch.cat(pieces, 1), scan.causal_conv_silu(x, weight, bias))
    assert torch.equal(past, x[:, -3:])


def test_step_sizes_keep_their_digits_however_small(backend):
    x = torch.linspace(-80, 80, 3202).reshape(2, 1, -1)
    results = []
    for function, dtype in ((scan.softplus, torch.float32), (log_of_sum, torch.float64)):
        value = x.clone().to(dtype).requires_grad_()
        y = function(value)
        y.sum().backward()
        results.append(torch.stack([y.detach(), value.grad]))
    assert ((results[0] / results[1] - 1).abs() < 1e-5).all()
    assert scan.softplus(torch.full((1, 1, 40), torch.nan)).isnan().all()


def log_of_sum(x):
    return torch.logaddexp(x, torch.zeros_like(x))
