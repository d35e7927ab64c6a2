"""The CPU's stand-in for CUDA has all math functions, and their values are right."""

from __future__ import annotations

import ctypes
import math
import re
from collections.abc import Callable
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from forerun.runtime.toolchain import missing_toolchain
from forerun.runtime.toolchain.locate import require_compiler
from tests.kernels.on_cpu.runner import COMPILER, LACKING, compiled

pytestmark = pytest.mark.skipif(COMPILER is None, reason="g++ is not installed")

INCLUDES = '#include "shim.h"\n#include "cuda_fp16.h"\n#include "cuda_bf16.h"\n'


def built(folder: Path, text: str) -> ctypes.CDLL:
    source, library = folder / "unit.cpp", folder / "unit.so"
    source.write_text(INCLUDES + text)
    done = compiled(source, library)
    assert done.returncode == 0, done.stderr
    return ctypes.CDLL(str(library))


def erfcx(x: float) -> float:
    return math.exp(x * x) * math.erfc(x) if x < 20 else math.nan


def bessel(order: int, x: float) -> float:
    angles = (np.arange(4000) + 0.5) * np.pi / 4000
    return float(np.mean(np.exp(x * np.cos(angles)) * np.cos(order * angles)))


Function = Callable[[float], float]
POSITIVE, BELOW_ONE, ANY = (
    (0.001, 0.3, 1.0, 2.5, 17.0),
    (-0.999, -0.4, 0.0, 0.2, 0.97),
    (-8.3, -1.0, -0.2, 0.0, 0.7, 5.5),
)
UNARY: dict[str, tuple[Function, tuple[float, ...]]] = {
    **{name: (getattr(math, name), ANY) for name in ("asinh", "atan", "cos", "cosh", "erf", "erfc", "exp", "exp2")},
    **{name: (getattr(math, name), ANY) for name in ("expm1", "fabs", "sin", "sinh", "tan", "tanh", "trunc", "cbrt")},
    **{name: (getattr(math, name), ANY) for name in ("ceil", "floor")},
    **{name: (getattr(math, name), POSITIVE) for name in ("log", "log10", "log1p", "log2", "sqrt", "lgamma")},
    **{name: (getattr(math, name), BELOW_ONE) for name in ("acos", "asin", "atanh")},
    "acosh": (math.acosh, (1.0, 1.5, 40.0)),
    "tgamma": (math.gamma, POSITIVE),
    "exp10": (lambda x: 10**x, ANY),
    "rint": (lambda x: float(np.rint(x)), (*ANY, 0.5, 1.5, -2.5)),
    "nearbyint": (lambda x: float(np.rint(x)), (*ANY, 0.5, 1.5)),
    "round": (lambda x: math.copysign(math.floor(abs(x) + 0.5), x), (*ANY, 0.5, 1.5, -2.5)),
    "logb": (lambda x: math.frexp(x)[1] - 1, POSITIVE),
    "sinpi": (lambda x: math.sin(math.pi * x), (0.25, 0.5, -1.3, 2.0)),
    "cospi": (lambda x: math.cos(math.pi * x), (0.25, 1.0, -1.3, 2.0)),
    "rcbrt": (lambda x: 1 / math.cbrt(x), POSITIVE),
    "rsqrt": (lambda x: 1 / math.sqrt(x), POSITIVE),
    "normcdf": (lambda x: 0.5 * math.erfc(-x / math.sqrt(2)), ANY),
    "erfcx": (erfcx, (-2.0, 0.0, 0.5, 7.0, 19.9)),
    "cyl_bessel_i0": (lambda x: bessel(0, x), (0.0, 0.5, -3.0, 20.0)),
    "cyl_bessel_i1": (lambda x: bessel(1, x), (0.0, 0.5, -3.0, 20.0)),
}
INVERSE: dict[str, tuple[Function, tuple[float, ...]]] = {
    "erfinv": (math.erf, (*BELOW_ONE, 0.6, -0.51, 1 - 1e-9)),
    "erfcinv": (math.erfc, (1e-300, 1e-9, 0.3, 1.0, 1.7, 1.9999999)),
    "normcdfinv": (lambda x: 0.5 * math.erfc(-x / math.sqrt(2)), (1e-200, 0.001, 0.5, 0.8, 0.999999)),
}


def test_functions_have_right_values(tmp_path: Path) -> None:
    names = [*UNARY, *INVERSE]
    text = [f'extern "C" double d_{n}(double x) {{ return {n}(x); }}' for n in names]
    text += [f'extern "C" float f_{n}(float x) {{ return {n}f(x); }}' for n in names]
    text += [f'extern "C" float o_{n}(float x) {{ static_assert(sizeof({n}(x)) == 4); return {n}(x); }}' for n in names]
    library = built(tmp_path, "\n".join(text))

    def values(kind: str, name: str, points: tuple[float, ...]) -> list[float]:
        function = getattr(library, f"{kind}_{name}")
        function.restype = ctypes.c_double if kind == "d" else ctypes.c_float
        function.argtypes = [function.restype]
        return [function(x) for x in points]

    for name, (expected, points) in UNARY.items():
        np.testing.assert_allclose(values("d", name, points), [expected(x) for x in points], 2e-12, 1e-14, err_msg=name)
        singles = tuple(float(np.float32(x)) for x in points)
        for kind in "fo":
            found = values(kind, name, singles)
            np.testing.assert_allclose(found, [expected(x) for x in singles], 3e-6, 1e-6, err_msg=name)
    for name, (forth, points) in INVERSE.items():
        np.testing.assert_allclose([forth(x) for x in values("d", name, points)], points, 1e-12, 1e-15, err_msg=name)
    assert values("d", "erfcx", (30.0, 1e8)) == pytest.approx([0.018795888861416751, 5.641895835477563e-9], rel=1e-13)
    assert values("d", "erfinv", (1.0, -1.0, 2.0))[:2] == [math.inf, -math.inf]


def test_intrinsics_round_as_they_say(tmp_path: Path) -> None:
    modes = "rn", "rz", "ru", "rd"
    text = []
    for r in modes:
        text.append(f'extern "C" void all_{r}(double* out) {{ int i = 0; ')
        for op, more in (("add", "1.0f, 1e-9f"), ("sub", "1.0f, 1e-9f"), ("mul", "1.1f, 1.1f"), ("div", "-1.0f, 3.0f")):
            text.append(f"out[i++] = __f{op}_{r}({more});")
            text.append(f"out[i++] = __d{op}_{r}({more.replace('f', '')});")
        text += [f"out[i++] = __frcp_{r}(3.0f);", f"out[i++] = __fsqrt_{r}(2.0f);"]
        text += [f"out[i++] = __fmaf_{r}(1.1f, 1.1f, 1e-9f);", f"out[i++] = __double2float_{r}(-0.1);"]
        text += [f"out[i++] = __int2float_{r}(16777217);", f"out[i++] = __ull2double_{r}(~0ull);"]
        text += [f"out[i++] = float(__float2half_{r}(0.1f));", f"out[i++] = float(__float2bfloat16_{r}(0.1f));"]
        text += [f"out[i++] = __float2int_{r}(-2.5f);", f"out[i++] = __double2uint_{r}(3.5);", "}"]
    library = built(tmp_path, "\n".join(text))
    found = {}
    for r in modes:
        out = (ctypes.c_double * 18)()
        getattr(library, f"all_{r}")(out)
        found[r] = np.array(out)
    down, up = found["rd"], found["ru"]
    assert (down < up).all()
    toward_zero = np.where(up > 0, down, up)
    np.testing.assert_array_equal(found["rz"], toward_zero)
    assert ((found["rn"] == down) | (found["rn"] == up)).all()
    nearest = [1.0, 1.0, 1.0, 1.0 - 1e-9, np.float32(1.1) * np.float32(1.1), 1.1 * 1.1, np.float32(-1 / 3), -1 / 3]
    nearest[1] = 1.0 + 1e-9
    assert found["rn"][:8].tolist() == pytest.approx(nearest, rel=0)
    assert [found[r][-1] for r in modes] == [4, 3, 4, 3]
    assert [found[r][-2] for r in modes] == [-2, -2, -2, -3]


@pytest.mark.parametrize(
    ("name", "scalar", "dtype"), [("half", "__half", np.float16), ("bfloat16", "__nv_bfloat16", ml_dtypes.bfloat16)]
)
def test_every_half_is_converted_and_computed_with(tmp_path: Path, name: str, scalar: str, dtype: type) -> None:
    text = f"""
    extern "C" void widen(unsigned short* in, float* out) {{
        for (int i = 0; i < 65536; ++i) out[i] = __{name}2float(__ushort_as_{name}(in[i]));
    }}
    extern "C" void narrow(float* in, unsigned short* out, int n) {{
        for (int i = 0; i < n; ++i) out[i] = __{name}_as_ushort(__float2{name}(in[i]));
    }}
    extern "C" void compute(unsigned short* x, unsigned short* y, unsigned short* out, int n) {{
        for (int i = 0; i < n; ++i) {{
            const {scalar} a = __ushort_as_{name}(x[i]), b = __ushort_as_{name}(y[i]);
            {scalar} r[] = {{a + b, a - b, __hmul(a, b), a / b, hsqrt(__habs(a)), hexp(a), __hmax(a, b), __hmin(a, b),
                            __hneg(a), __hfma(a, b, a), {scalar}(int(a < b)), {scalar}(int(__hneu(a, b)))}};
            for (int j = 0; j < 12; ++j) out[12 * i + j] = __{name}_as_ushort(r[j]);
        }}
    }}
    """
    library = built(tmp_path, text)
    bits = np.arange(65536, dtype=np.uint16)
    wide = np.empty(65536, np.float32)
    library.widen(bits.ctypes.data_as(ctypes.c_void_p), wide.ctypes.data_as(ctypes.c_void_p))
    np.testing.assert_array_equal(wide, bits.view(dtype).astype(np.float32))
    chooser = np.random.default_rng(0)
    numbers = chooser.normal(size=20000).astype(np.float32) * np.float32(10) ** chooser.integers(-9, 9, 20000)
    numbers = np.append(numbers, [0.0, -0.0, np.inf, -np.inf, 65519.0, 65520.0, 3.39e38, 1e-41]).astype(np.float32)
    short = np.empty(numbers.size, np.uint16)
    library.narrow(
        numbers.ctypes.data_as(ctypes.c_void_p), short.ctypes.data_as(ctypes.c_void_p), ctypes.c_int(numbers.size)
    )
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(short, numbers.astype(dtype).view(np.uint16))
    x, y = (chooser.normal(size=500).astype(dtype) for _ in range(2))
    out = np.empty((500, 12), np.uint16)
    library.compute(*(a.ctypes.data_as(ctypes.c_void_p) for a in (x, y, out)), ctypes.c_int(500))
    a, b = x.astype(np.float64), y.astype(np.float64)
    expected = [a + b, a - b, a * b, a / b, np.sqrt(abs(a)), np.exp(a), np.maximum(a, b), np.minimum(a, b), -a]
    expected += [a * b + a, a < b, a != b]
    wanted = np.stack([np.asarray(e, np.float64).astype(np.float32).astype(dtype) for e in expected], axis=1)
    np.testing.assert_array_equal(out.view(dtype).astype(np.float32), wanted.astype(np.float32))


def test_integer_intrinsics(tmp_path: Path) -> None:
    text = """extern "C" void run(long long* out) { int i = 0;
        out[i++] = __clz(1); out[i++] = __clzll(0); out[i++] = __ffs(8); out[i++] = __popc(255u);
        out[i++] = __brev(1u); out[i++] = __byte_perm(0x33221100u, 0x77665544u, 0x6240u);
        out[i++] = __mulhi(-5, 1 << 31);
        out[i++] = __umulhi(~0u, ~0u); out[i++] = __hadd(-3, 0); out[i++] = __rhadd(-3, 0); out[i++] = __sad(-4, 3, 5u);
        out[i++] = __funnelshift_l(0x80000000u, 1u, 1); out[i++] = __dp4a(0x01FF02FE, 0x01010101, 10);
        out[i++] = __float2int_rz(3e9f); out[i++] = __float2int_rz(nanf("")); out[i++] = max(3, 5); out[i++] = abs(-4);
    }"""
    out = (ctypes.c_longlong * 17)()
    built(tmp_path, text).run(out)
    top = (0xFFFFFFFF**2) >> 32
    assert list(out) == [31, 64, 4, 8, 1 << 31, 0x66224400, 2, top, -2, -1, 12, 3, 10, 2**31 - 1, 0, 5, 4]


HEADERS = {
    "crt/math_functions.h": r"__(?:DEVICE_FUNCTIONS_DECL|device_builtin)__",
    "crt/device_functions.h": r"__DEVICE_FUNCTIONS_DECL__",
    "crt/device_double_functions.h": r"__device_builtin__",
    "sm_30_intrinsics.h": r"__SM_30_INTRINSICS_DECL__",
    "sm_32_intrinsics.h": r"__SM_32_INTRINSICS_DECL__",
    "sm_61_intrinsics.h": r"__SM_61_INTRINSICS_DECL__",
    "cuda_fp16.h": r"__CUDA_(?:HOSTDEVICE_)?FP16_DECL__",
    "cuda_bf16.h": r"__CUDA_(?:HOSTDEVICE_)?BF16_DECL__",
}


# Of other compilers' libraries, and words that only look like functions.
INTERNAL = re.compile(
    r"_[A-Za-z]\w*|__(is|signbit|finite|libcpp|DOUBLE|FLOAT|DEPRECATED|CUDA|attribute|cmath|pow_)\w*|compiler|defined"
)


@pytest.mark.toolchain
@pytest.mark.skipif(missing_toolchain() is not None, reason=str(missing_toolchain()))
def test_nothing_is_lacking_but_what_is_known_to_be(tmp_path: Path) -> None:
    names = declared_by_cuda()
    assert len(names) > 700
    present = sorted(name for name in names if not LACKING.fullmatch(name))
    built(tmp_path, "\n".join(f"namespace check_{i} {{ using ::{name}; }}" for i, name in enumerate(present)))
    assert {name for name in names if LACKING.fullmatch(name)} >= {"__vadd2", "__ldg", "__threadfence"}


def declared_by_cuda() -> set[str]:
    found: set[str] = set()
    for header, declares in HEADERS.items():
        path = next(folder / header for folder in require_compiler().include if (folder / header).is_file())
        line = rf"^(?:extern\s|static\s)?[^;({{\n]*{declares}[^;({{]*?[\s*](\w+)\s*\("
        found |= set(re.findall(line, path.read_text(errors="replace"), re.MULTILINE))
    return {name for name in found if not INTERNAL.fullmatch(name)}
