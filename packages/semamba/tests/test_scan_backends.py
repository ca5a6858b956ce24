"""The choice of a backend, and what the compiled one must stand: threads, forks, odd shapes, no numba, no cache."""

import sys
import threading
import types

import pytest
import torch
import torch.nn.functional as F
import warm
from audio_core.files import InputError
from audio_core.testing import close
from audio_semamba import scan
from audio_semamba.mamba import Mixer


@pytest.fixture(autouse=True)
def _no_choice(monkeypatch):
    monkeypatch.delenv(scan.VARIABLE, raising=False)
    scan.use(None)
    yield
    scan.use(None)


def inputs(rows=3, length=20, width=40, N=5, scale=0.3):
    """u and z, and B and C, are parts of what one projection returns."""
    wide, mixes = torch.randn(rows, length, 2 * width), torch.randn(rows, length, 3 + 2 * N)
    delta = scale * torch.rand(rows, length, width)
    return [
        *(wide[..., :width], delta, -3 * torch.rand(width, N), mixes[..., 3 : 3 + N], mixes[..., 3 + N :]),
        *(torch.randn(width), wide[..., width:]),
    ]


def gradients(x, dtype=torch.float32, **options):
    x = [value.detach().to(dtype).requires_grad_() for value in x]
    y = scan.selective_scan(*x, **options)
    return [y, *torch.autograd.grad(y.square().sum(), x)]


def test_a_processor_gets_numba_and_one_line_says_so(capsys):
    for _ in range(2):
        scan.selective_scan(*inputs())
    assert scan.backend("cpu") == "numba"
    line = capsys.readouterr().err
    assert line.startswith("selective scan on cpu: numba") and line.count("\n") == 1


def test_a_first_use_says_that_it_compiles(monkeypatch, tmp_path):
    scan.selective_scan(*inputs())
    kernel = types.SimpleNamespace(stats=types.SimpleNamespace(cache_path=str(tmp_path)))
    monkeypatch.setattr(scan.numba_cpu.forward, "scan", kernel)
    assert "compiled at their first use" in scan.numba_cpu.remark()
    (tmp_path / "forward.scan-21.py311.nbi").touch()
    assert not scan.numba_cpu.remark()


def test_a_backend_is_forced_by_name_or_variable(monkeypatch):
    scan.use("torch")
    assert scan.backend("cpu") == "torch"
    monkeypatch.setenv(scan.VARIABLE, "torch")
    scan.use(None)
    assert scan.backend("cpu") == "torch"
    scan.use("numba")
    assert scan.backend("cpu") == "numba"


def test_unknown_and_unfit_backends_are_refused_with_what_there_is(monkeypatch):
    with pytest.raises(InputError, match="'cuda' is not one of mamba-ssm, triton, numba, torch"):
        scan.use("cuda")
    scan.use("triton")
    with pytest.raises(InputError, match="triton: works on cuda, not on cpu; take torch"):
        scan.backend("cpu")
    monkeypatch.setenv(scan.VARIABLE, "fast")
    scan.use(None)
    with pytest.raises(InputError, match="AUDIO_SEMAMBA_SCAN: 'fast' is not one of"):
        scan.backend("cpu")


def test_without_numba_torch_scans_after_one_warning(monkeypatch):
    for name in [name for name in sys.modules if name.startswith(f"{scan.__name__}.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "numba", None)
    with pytest.warns(UserWarning, match="falls back to torch"):
        scan.selective_scan(*inputs())
    scan.selective_scan(*inputs())  # a further warning would be an error
    assert scan.backend("cpu") == "torch"
    scan.use("numba")
    with pytest.raises(InputError, match="numba: cannot be imported"):
        scan.backend("cpu")


def test_kernels_are_compiled_where_nothing_can_be_kept(monkeypatch):
    from audio_semamba.scan import compiled

    def njit(*args, cache=False, **options):
        if cache:
            raise RuntimeError("cannot cache function 'double': no locator available")
        return njit_as_it_is(*args, **options)

    njit_as_it_is = compiled.numba.njit
    monkeypatch.setattr(compiled.numba, "njit", njit)
    assert compiled.compiled(lambda x: 2 * x)(3) == 6


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 33, 5, 3), (3, 16, 64, 16), (2, 40, 100, 7)])
@pytest.mark.parametrize("reverse", [False, True])
def test_every_shape_has_the_values_and_gradients_of_float64(shape, reverse):
    x = inputs(*shape)
    for gated in (True, False):
        x = x if gated else x[:-1]
        for value, expected in zip(
            gradients(x, reverse=reverse), gradients(x, torch.float64, reverse=reverse), strict=True
        ):
            close(value, expected)


@pytest.mark.parametrize("scale", [1e-4, 30.0])
def test_states_that_hardly_decay_and_that_vanish_at_once(scale):
    x = inputs(scale=scale)
    for value, expected in zip(gradients(x), gradients(x, torch.float64), strict=True):
        close(value, expected)


def test_a_channel_that_is_nan_stays_alone():
    x = inputs()
    x[0][1, 7, 11] = torch.nan
    y, grad_u, grad_delta, *_ = gradients(x)
    for value in (y, grad_u, grad_delta):
        rows, _, channels = value.isnan().nonzero(as_tuple=True)
        assert set(rows.tolist()) == {1} and set(channels.tolist()) == {11}
    assert y.isnan().sum() == 13 and y[1, 7:, 11].isnan().all()


def test_whole_numbers_are_no_inputs():
    with pytest.raises(InputError, match=r"u: expected floats, got torch.int32"):
        scan.selective_scan(*(x.to(torch.int32) for x in inputs()))


@pytest.mark.parametrize("at", [1, 2, 3, 4])
def test_nan_in_any_input_is_seen(at):
    x = inputs(1, 4, 40, 3)
    x[at] = x[at].clone()
    x[at][..., 0] = float("nan")
    assert not scan.selective_scan(*x).isfinite().all()


def test_a_decay_of_minus_infinity_forgets_at_once():
    x = inputs(1, 4, 40, 3)
    x[1], x[2] = x[1] + 0.1, torch.full_like(x[2], -torch.inf)
    y = scan.selective_scan(*x)
    scan.use("torch")
    torch.testing.assert_close(y, scan.selective_scan(*x), rtol=1e-5, atol=1e-6)


def test_kernels_are_renewed_when_any_of_their_files_changed(tmp_path, monkeypatch):
    scan.selective_scan(*inputs())
    kernel = types.SimpleNamespace(stats=types.SimpleNamespace(cache_path=str(tmp_path)))
    kept = tmp_path / "forward.scan-21.py311.1.nbc"
    scan.numba_cpu.renew(kernel)
    kept.touch()
    scan.numba_cpu.renew(kernel)
    assert kept.exists()
    (tmp_path / "audio_semamba.sources").write_text("of other files")
    scan.numba_cpu.renew(kernel)
    assert not kept.exists()


def test_the_loop_has_exact_gradients():
    x = [value.double().requires_grad_() for value in inputs(1, 17, 2, 2)]
    assert torch.autograd.gradcheck(scan.selective_scan, x)


def test_autocast_does_not_reach_the_scan():
    x = inputs()
    expected = scan.selective_scan(*x)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(scan.selective_scan(*x), expected)
        assert scan.selective_scan(*(value.bfloat16() for value in x)).dtype == torch.float32


def test_what_does_not_fit_together_is_named():
    x = inputs()
    for place, value, name in ((1, x[1][:, 1:], "delta"), (3, x[3].double(), "B"), (6, x[6][:1], "z")):
        with pytest.raises(InputError, match=f"^{name}: expected"):
            scan.selective_scan(*x[:place], value, *x[place + 1 :])
    with pytest.raises(InputError, match=r"^bias: expected"):
        scan.causal_conv_silu(x[0], torch.randn(40, 4), torch.randn(39))


def test_threads_share_the_rows(monkeypatch):
    from audio_semamba.scan import numba_cpu

    x = inputs(rows=7)
    weight = torch.randn(40, 4, requires_grad=True)

    def everything():
        u = x[0].detach().requires_grad_()
        y = scan.causal_conv_silu(u, weight, x[5])
        return [*gradients(x), y, *torch.autograd.grad(y.square().sum(), (u, weight))]

    alone = everything()
    monkeypatch.setattr(numba_cpu, "WORTH_A_THREAD", 1)
    torch.set_num_threads(3)
    for value, expected in zip(everything(), alone, strict=True):
        close(value, expected, 1e-6)


def test_many_callers_at_once_do_not_disturb_each_other(monkeypatch):
    from audio_semamba.scan import numba_cpu

    monkeypatch.setattr(numba_cpu, "WORTH_A_THREAD", 1)
    torch.set_num_threads(2)
    x = inputs(rows=8)
    expected, results = scan.selective_scan(*x), []
    callers = [threading.Thread(target=lambda: results.append(scan.selective_scan(*x))) for _ in range(8)]
    for each in callers:
        each.start()
    for each in callers:
        each.join()
    assert len(results) == 8 and all(torch.equal(each, expected) for each in results)


FORKS = """
import torch
from audio_semamba.scan import numba_cpu, selective_scan

numba_cpu.WORTH_A_THREAD = 1
x = torch.rand(4, 9, 8)

def scanned():
    torch.set_num_threads(2)
    return selective_scan(x, x, -x[0, :8], x, x, x[0, 0])

class Scans(torch.utils.data.Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        return scanned()

first = scanned()
for batch in torch.utils.data.DataLoader(Scans(), num_workers=2, multiprocessing_context="fork"):
    assert torch.equal(batch[0], first)
assert torch.equal(scanned(), first)
print("equal")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="nothing forks there")
def test_workers_that_are_forked_after_a_scan_scan_as_well():
    child = warm.run("-c", FORKS)
    assert child.stdout == "equal\n", child.stderr[-2000:]


def test_mamba_ssm_gets_its_layout(monkeypatch):
    """Its compiled module needs a device; here a scan in its layout takes its place."""

    def selective_scan_fn(u, delta, A, B, C, D, z):
        assert all(x.is_contiguous() for x in (u, delta, B, C, z))
        state, ys = 0, []
        for t in range(u.shape[2]):
            inflow = (delta * u)[..., t, None] * B[:, None, :, t]
            state = torch.exp(delta[..., t, None] * A) * state + inflow
            ys.append((state * C[:, None, :, t]).sum(2))
        return (torch.stack(ys, 2) + D[:, None] * u) * F.silu(z)

    interface = types.ModuleType("mamba_ssm.ops.selective_scan_interface")
    interface.selective_scan_fn = selective_scan_fn
    for name in ("selective_scan_cuda", "mamba_ssm", "mamba_ssm.ops"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, interface.__name__, interface)
    monkeypatch.delitem(sys.modules, "audio_semamba.scan.mamba_ssm", raising=False)
    from audio_semamba.scan import mamba_ssm

    x = inputs()
    for reverse in (False, True):
        close(mamba_ssm.selective_scan(*x, reverse), scan.selective_scan(*x, reverse=reverse))


def test_a_kernel_that_cannot_be_kept_runs_all_the_same(monkeypatch):
    """As on a disk that is full."""
    numba_cpu = pytest.importorskip("audio_semamba.scan.numba_cpu")
    from audio_semamba.scan.compiled import compiled, floats
    from numba.core import caching

    def refuse(self, key, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(caching.IndexDataCacheFile, "save", refuse)

    @compiled
    def kernel(size, y, scratch, part, start, stop):
        y = floats(y)
        for i in range(start, stop):
            y[i] += size[1]

    y = torch.zeros(4)
    numba_cpu.share(kernel, 0, 2, (4, 3), y.data_ptr())
    assert y.tolist() == [3] * 4


@pytest.mark.parametrize("channels, N, K, rows, length", [(16, 8, 4, 128, 1), (17, 5, 3, 3, 9), (31, 16, 4, 2, 40)])
def test_one_kernel_computes_what_many_operations_do(monkeypatch, channels, N, K, rows, length):
    projected = torch.randn(rows, length, 4 * channels)
    state = torch.randn(rows, K - 1, 2 * channels), torch.randn(rows, N, 2 * channels)
    mixers = [Mixer(channels, N, K, 2, reverse) for reverse in (False, True)]
    results = []
    with torch.no_grad():
        for most in (scan.MOST, 0):
            monkeypatch.setattr(scan, "MOST", most)
            assert scan.fuses(projected[..., : 2 * channels]) == (most > 0)
            y, following = mixers[0].stream(projected, state)
            results.append([y, *following, *(mixer(projected) for mixer in mixers)])
    for value, expected in zip(*results, strict=True):
        close(value, expected)
    x, z = projected.chunk(2, -1)
    weights = mixers[0].weights()
    with torch.no_grad():
        strided = torch.stack([state[1], state[1]], -1)[..., 0]  # not contiguous
        once, again = (scan.mixer(x, z, *weights, past=state[0], state=values)[0] for values in (state[1], strided))
        assert torch.equal(once, again)
        with pytest.raises(ValueError, match="exclude each other"):
            scan.mixer(x, z, *weights, reverse=True, past=state[0])
        half = scan.mixer(x, z, *(weight.half() for weight in weights))[0]  # float32 inside, as everywhere
        close(half, scan.mixer(x, z, *weights)[0], 1e-2)
        with pytest.raises(InputError, match="A_log: expected"):
            scan.mixer(x, z, *weights[:5], weights[5].double(), weights[6])
        with pytest.raises(InputError, match="state: expected"):
            scan.mixer(x, z, *weights, past=state[0], state=state[1][:, 1:])
