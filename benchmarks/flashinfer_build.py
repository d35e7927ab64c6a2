"""FlashInfer's normalisation and paged attention, built ahead from its own wheel, with no GPU and no torch.

The wheel ships sources, and compiles at run time what is used. Where a GPU machine cannot do that, shared objects
travel: the package's sources, templates and bindings, with the definitions and the architecture that it uses itself
(``flashinfer/jit``). They hold machine code only, as the package's own ahead-of-time wheels do.

    pip download --no-deps flashinfer-python==0.7.4 apache-tvm-ffi==0.1.15.post2   # unpacked side by side into FOLDER
    python benchmarks/flashinfer_build.py FOLDER OUT

It takes three minutes on two cores. ``batch_attention_64`` and ``batch_attention_128`` are its persistent kernel, for
causal masks alone. Headers of cuBLAS and cuRAND are looked for in ``FOLDER/nvidia``, too, where the wheels
``nvidia-cublas`` and ``nvidia-curand`` lay them; the persistent kernel needs neither.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

__all__ = ["MODULES", "decode_sources", "main"]

HEAD_SIZE, PERSISTENT_HEAD_SIZES = 64, (64, 128)
_TENSORS = {"maybe_alibi_slopes": "float"}
_SCALARS = ("logits_soft_cap", "sm_scale", "rope_rcp_scale", "rope_rcp_theta")
_TYPE = "nv_bfloat16"
_FLAGS = [
    "-gencode=arch=compute_90a,code=sm_90a", "-O3", "-std=c++20", "--use_fast_math", "--expt-relaxed-constexpr",
    "-static-global-template-stub=false", "--compiler-options=-fPIC", "-DNDEBUG",
    "-DFLASHINFER_ENABLE_F16", "-DFLASHINFER_ENABLE_BF16", "-DFLASHINFER_ENABLE_FP8_E4M3",
    "-DFLASHINFER_ENABLE_FP8_E5M2", "-DFLASHINFER_ENABLE_FP8_E8M0", "-DFLASHINFER_ENABLE_FP4_E2M1",
    "-DCUTE_SM90_EXTENDED_MMA_SHAPES_ENABLED", "-DENABLE_BF16", "-DENABLE_FP8",
]  # fmt: skip

MODULES = {
    "norm": ("norm.cu", "flashinfer_norm_binding.cu"),
    "batch_decode": ("batch_decode_kernel.cu", "batch_decode.cu", "batch_decode_jit_binding.cu"),
    **{
        f"batch_attention_{size}": tuple(
            f"batch_attention_{size}/batch_attention{suffix}.cu" for suffix in ("_paged_kernel", "", "_jit_binding")
        )
        for size in PERSISTENT_HEAD_SIZES
    },
}

_ONLY_CAUSAL = """
#undef DISPATCH_MASK_MODE
#define DISPATCH_MASK_MODE(mask_mode, MASK_MODE, ...) \\
  {                                                    \\
    constexpr MaskMode MASK_MODE = MaskMode::kCausal;  \\
    __VA_ARGS__                                        \\
  }
"""


def decode_sources(csrc: Path, out: Path) -> None:
    """Fill the package's templates for bf16, as its ``gen_batch_decode_module`` does."""
    from jinja2 import Template

    setters = [
        f"params.{name} = {name} ? static_cast<{kind}*>({name}.value().data_ptr()): nullptr;"
        for name, kind in _TENSORS.items()
    ] + [f"params.{name} = {name};" for name in _SCALARS]
    declared = [f"{kind}* {name};\n" for name, kind in _TENSORS.items()] + [f"double {name};\n" for name in _SCALARS]
    taken = [f", Optional<ffi::Tensor> {name}" for name in _TENSORS] + [f", double {name}" for name in _SCALARS]
    values = {
        "additional_params_decl": "".join(declared), "additional_func_params": "".join(taken),
        "additional_params_setter": " \\\n".join(setters),
        "variant_name": "DefaultAttention<false, false, false, false>",
        "variant_decl": "#include<flashinfer/attention/variants.cuh>", "dtype_q": _TYPE, "dtype_kv": _TYPE,
        "dtype_o": _TYPE, "idtype": "int32_t", "head_dim_qk": HEAD_SIZE, "head_dim_vo": HEAD_SIZE,
        "pos_encoding_mode": "PosEncodingMode::kNone", "use_sliding_window": "false", "use_logits_soft_cap": "false",
    }  # fmt: skip
    filled = {
        "batch_decode_customize_config.jinja": "batch_decode_config.inc",
        "batch_decode_kernel_inst.jinja": "batch_decode_kernel.cu",
    }
    for template, name in filled.items():
        (out / name).write_text(Template((csrc / template).read_text()).render(**values))
    for name in MODULES["batch_decode"][1:]:
        (out / name).write_text((csrc / name).read_text())


def persistent_sources(csrc: Path, out: Path, size: int) -> None:
    """Fill the package's templates for bf16, as its ``gen_batch_attention_module`` does, for causal masks alone."""
    from jinja2 import Template

    scales = ("maybe_k_cache_sf", "maybe_v_cache_sf")
    setters = [f"params[i].{n} = {n} ? static_cast<uint8_t*>({n}.value().data_ptr()): nullptr;" for n in scales]
    setters += [f"params[i].{kind}_sf_stride_{axis} = 0;" for kind in "kv" for axis in ("page", "h", "n")]
    values = {
        "additional_params_decl": "".join(f"uint8_t* {name};\n" for name in scales),
        "additional_func_params": "".join(f", Optional<ffi::Tensor> {name}" for name in scales),
        "additional_params_setter": " \\\n".join(setters), "variant_name": "StandardAttention<false>",
        "variant_decl": "#include<flashinfer/attention/variants.cuh>", "dtype_q": _TYPE, "dtype_kv": _TYPE,
        "dtype_o": _TYPE, "idtype": "int32_t", "head_dim_qk": size, "head_dim_vo": size,
        "pos_encoding_mode": "PosEncodingMode::kNone",
        "use_logits_soft_cap": "false", "paged_kv_stride_mode": "equal", "equal_kv_strides_values": ["true"],
        "mask_mode": "MaskMode::kCausal",
    }  # fmt: skip
    kernel, *rest = (out / name for name in MODULES[f"batch_attention_{size}"])
    kernel.parent.mkdir(exist_ok=True)
    config = Template((csrc / "batch_attention_customize_config.jinja").read_text()).render(**values)
    (kernel.parent / "batch_attention_config.inc").write_text(config + _ONLY_CAUSAL)
    kernel.write_text(Template((csrc / "batch_attention_paged_kernel_inst.jinja").read_text()).render(**values))
    for path in rest:
        path.write_text((csrc / path.name).read_text())


def _includes(wheels: Path, out: Path) -> list[str]:
    data = wheels / "flashinfer" / "data"
    first = [f"-I{path}" for path in (out, *(data / "cccl" / name for name in ("cub", "libcudacxx/include", "thrust")))]
    more = [
        wheels / "tvm_ffi" / "include", data / "include", data / "csrc", data / "cutlass" / "include",
        data / "cutlass" / "tools" / "util" / "include", data / "spdlog" / "include",
        wheels / "nvidia" / "cu13" / "include",
    ]  # fmt: skip
    return first + [word for path in more for word in ("-isystem", str(path))]


def main(arguments: list[str] | None = None) -> int:
    """Build both modules into a folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheels", type=Path, help="where both wheels are unpacked")
    parser.add_argument("out", type=Path)
    parser.add_argument("--nvcc", default="nvcc")
    parser.add_argument("--ptx", action="store_true", help="the PTX of each source instead, to be read")
    parser.add_argument("--only", choices=MODULES, help="one module")
    options = parser.parse_args(arguments)
    modules = {name: sources for name, sources in MODULES.items() if options.only in (None, name)}
    wheels, out = options.wheels.resolve(), options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    csrc = wheels / "flashinfer" / "data" / "csrc"
    decode_sources(csrc, out)
    for size in PERSISTENT_HEAD_SIZES:
        persistent_sources(csrc, out, size)
    common = [options.nvcc, *_FLAGS, *_includes(wheels, out)]

    def compiled(name: str) -> Path:
        source = out / name if (out / name).exists() else csrc / name
        if options.ptx:
            made = (out / name).with_suffix(".ptx")
            flags = [flag.replace("code=sm_90a", "code=compute_90a") for flag in common]
            subprocess.run([*flags, "-ptx", str(source), "-o", str(made)], check=True)
            return made
        made = (out / name).with_suffix(".o")
        subprocess.run([*common, "-c", str(source), "-o", str(made)], check=True)
        return made

    names = [name for sources in modules.values() for name in sources if not (options.ptx and "binding" in name)]
    with ThreadPoolExecutor(2) as pool:
        objects = dict(zip(names, pool.map(compiled, names), strict=True))
    if options.ptx:
        return 0
    for module, sources in modules.items():
        library = out / f"{module}.so"
        parts = [str(objects[name]) for name in sources]
        subprocess.run([options.nvcc, "-shared", "-cudart", "static", *parts, "-o", str(library)], check=True)
        subprocess.run(["strip", "-s", str(library)], check=True)
        print(library, library.stat().st_size)
    for path in objects.values():
        path.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main())
