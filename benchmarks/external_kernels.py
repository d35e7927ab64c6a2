"""Programs for ``external_zoo.py`` that launch kernels themselves: Triton's matrix products, FlashInfer's, CuPy's."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from external_common import Program, torch_graph, written_by

__all__ = ["attention_layers", "coupled_fields", "matrix_products", "matrix_products_of_maps"]

# Triton

LAYERS, ROWS, WIDTH, HIDDEN = 8, 256, 2048, 4096
TILES = {"bm": 64, "bn": 64, "bk": 64, "group": 8}


def matrix_products(session: Any) -> Iterator[Program]:
    """A chain of 16 persistent products, those of 8 MLPs, through pointers."""
    yield _products(session, of_maps=False)


def matrix_products_of_maps(session: Any) -> Iterator[Program]:
    """The same through tensor maps."""
    yield _products(session, of_maps=True)


def _products(session: Any, *, of_maps: bool) -> Program:
    import torch
    from external_triton import persistent_product, persistent_product_of_maps
    from triton.tools.tensor_descriptor import TensorDescriptor

    generator = torch.Generator("cuda").manual_seed(0)
    programs = torch.cuda.get_device_properties(0).multi_processor_count

    def drawn(rows: int, columns: int) -> Any:
        values = torch.randn(rows, columns, generator=generator, device="cuda") / columns**0.5
        return values.to(torch.bfloat16)

    weights = [drawn(*shape) for _ in range(LAYERS) for shape in ((HIDDEN, WIDTH), (WIDTH, HIDDEN))]
    x = drawn(ROWS, WIDTH)
    values = [x] + [torch.empty(ROWS, len(w), dtype=torch.bfloat16, device="cuda") for w in weights]

    def mapped(tensor: Any, rows: int, columns: int) -> Any:
        return TensorDescriptor.from_tensor(tensor, [rows, columns])

    def step() -> Any:
        for number, w in enumerate(weights):
            source, target = values[number], values[number + 1]
            own: tuple[Any, ...] = (source, w, target)
            if of_maps:
                tiles = ((TILES["bm"], TILES["bk"]), (TILES["bn"], TILES["bk"]), (TILES["bm"], TILES["bn"]))
                own = tuple(mapped(tensor, *tile) for tensor, tile in zip(own, tiles, strict=True))
            kernel = persistent_product_of_maps if of_maps else persistent_product
            sizes = (ROWS, len(w), w.shape[1])
            kernel[(programs,)](*own, *sizes, **TILES, programs=programs, relu=number % 2 == 0, num_warps=4)
        return values[-1]

    step()
    expected = x.float()
    for number, w in enumerate(weights):
        expected = (expected @ w.float().T).to(torch.bfloat16).float()
        expected = expected.relu() if number % 2 == 0 else expected
    error = float((values[-1].float() - expected).norm() / expected.norm())
    assert error < 3e-2, f"the products are wrong: relative error {error:.1e}"

    def refresh(seed: int) -> None:
        x.normal_(generator=torch.Generator("cuda").manual_seed(seed))

    graph, results = torch_graph(step)
    live = session.graph(graph)
    name = "persistent products, tensor maps" if of_maps else "persistent products"
    return Program(name, live, graph.replay, refresh, results, (graph, step, weights), written_by(live, weights))


# FlashInfer

MODULES = "FORERUN_FLASHINFER"
"""The variable that names the folder of what ``flashinfer_build.py`` made."""
HEADS, KV_HEADS, HEAD_SIZE, PAGE, TOKENS = 32, 8, 64, 16, 512
EPSILON = 1e-5


def attention_layers(session: Any) -> Iterator[Program]:
    """Eight decode layers: FlashInfer's norms and paged attention between torch's products; then with its own PDL."""
    for with_pdl in (False, True):
        step, refresh, constants = _attention_step(with_pdl)
        graph, results = torch_graph(step)
        live = session.graph(graph)
        name = "FlashInfer, enable_pdl" if with_pdl else "FlashInfer"
        yield Program(name, live, graph.replay, refresh, results, (graph, step), written_by(live, constants))


def _attention_step(with_pdl: bool) -> tuple[Callable[[], Any], Callable[[int], None], list[Any]]:
    """The step, what fills its input, and its weights."""
    import torch
    import tvm_ffi

    folder = Path(os.environ.get(MODULES, "benchmarks/.flashinfer"))
    norm, decode = (tvm_ffi.load_module(str(folder / f"{name}.so")) for name in ("norm", "batch_decode"))
    generator = torch.Generator("cuda").manual_seed(0)
    device: dict[str, Any] = {"dtype": torch.bfloat16, "device": "cuda"}

    def drawn(*shape: int) -> Any:
        values = torch.randn(*shape, generator=generator, device="cuda") / shape[-1] ** 0.5
        return values.to(torch.bfloat16)

    width, hidden, kv_width = HEADS * HEAD_SIZE, 8192, KV_HEADS * HEAD_SIZE
    shapes = ((width + 2 * kv_width, width), (width, width), (2 * hidden, width), (width, hidden))
    layers = [[drawn(*shape) for shape in shapes] for _ in range(LAYERS)]
    norms = [torch.ones(width, **device) for _ in range(2 * LAYERS + 1)]
    pages = TOKENS // PAGE
    caches = [[drawn(pages, PAGE, KV_HEADS, HEAD_SIZE) for _ in "kv"] for _ in range(LAYERS)]
    first, x, residual, h = (torch.zeros(1, width, **device) for _ in range(4))
    attended = torch.zeros(1, HEADS, HEAD_SIZE, **device)
    workspace, small = (torch.zeros(size << 20, dtype=torch.uint8, device="cuda") for size in (32, 8))
    pinned = torch.zeros(8 << 20, dtype=torch.uint8, pin_memory=True)
    begins = torch.tensor([0, pages], dtype=torch.int32)
    begins_there = begins.cuda()
    indices = torch.arange(pages, dtype=torch.int32, device="cuda")
    last = torch.tensor([PAGE], dtype=torch.int32, device="cuda")
    empty = torch.empty(0, dtype=torch.bfloat16)
    shape = (HEADS, KV_HEADS, PAGE)
    with tvm_ffi.use_torch_stream():
        plan = decode.plan(
            workspace, small, pinned, begins, 1, *shape, True, -1, 0.0, HEAD_SIZE, HEAD_SIZE, empty, empty
        )
    torch.cuda.synchronize()

    def attend(q: Any, caches: list[Any]) -> None:
        scalars = (0.0, HEAD_SIZE**-0.5, 1.0, 1e-4)  # cap of logits, scale, RoPE's reciprocals
        decode.run(
            workspace, small, plan, q, *caches, begins_there, indices, last, attended, None, 0, -1, with_pdl, None,
            *scalars,
        )  # fmt: skip

    def layer(number: int) -> None:
        qkv, out, gate_up, down = layers[number]
        q, *rows = (h @ qkv.T).split((width, kv_width, kv_width), -1)
        for cache, row in zip(caches[number], rows, strict=True):
            cache.view(TOKENS, KV_HEADS, HEAD_SIZE)[TOKENS - 1].copy_(row.view(KV_HEADS, HEAD_SIZE))
        attend(q.view(1, HEADS, HEAD_SIZE), caches[number])
        h.copy_(attended.view(1, width) @ out.T)
        norm.fused_add_rmsnorm(h, residual, norms[2 * number + 1], EPSILON, with_pdl)
        gate, up = (h @ gate_up.T).chunk(2, -1)
        x.copy_((torch.nn.functional.silu(gate) * up) @ down.T)
        norm.fused_add_rmsnorm(x, residual, norms[2 * number + 2], EPSILON, with_pdl)
        h.copy_(x)

    def step() -> Any:
        residual.copy_(first)
        with tvm_ffi.use_torch_stream():
            norm.rmsnorm(h, first, norms[0], EPSILON, with_pdl)
            for number in range(LAYERS):
                layer(number)
        return h

    def refresh(seed: int) -> None:
        first.normal_(generator=torch.Generator("cuda").manual_seed(seed))

    # Attention against torch's own, of the last layer's cache.
    q = drawn(1, HEADS, HEAD_SIZE)
    with tvm_ffi.use_torch_stream():
        attend(q, caches[-1])
    k, v = (cache.view(TOKENS, KV_HEADS, HEAD_SIZE).transpose(0, 1)[None].float() for cache in caches[-1])
    wanted = torch.nn.functional.scaled_dot_product_attention(
        q.float().transpose(0, 1)[None], k, v, enable_gqa=True
    ).view(1, HEADS, HEAD_SIZE)
    error = float((attended.float() - wanted).norm() / wanted.norm())
    assert error < 2e-2, f"attention is wrong: relative error {error:.1e}"
    return step, refresh, [*(w for own in layers for w in own), *norms]


# CuPy

SIDE, ITERATIONS, PARTS = 512, 12, 128
FIELDS = r"""
extern "C" __global__ void diffuse(const float* __restrict__ u, const float* __restrict__ k,
                                   const float* __restrict__ rate, float* __restrict__ next, int side) {
  const int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y;
  if (x >= side) return;
  const int here = y * side + x;
  const int left = x ? here - 1 : here, right = x + 1 < side ? here + 1 : here;
  const int above = y ? here - side : here, below = y + 1 < side ? here + side : here;
  const float conductivity = k[here];
  const float flow = u[left] + u[right] + u[above] + u[below] - 4.0f * u[here];
  next[here] = u[here] + rate[0] * conductivity * flow;
}
extern "C" __global__ void react(const float* __restrict__ u, const float* __restrict__ v,
                                 const float* __restrict__ feed, float* __restrict__ to_u, float* __restrict__ to_v,
                                 int count) {
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < count; i += gridDim.x * blockDim.x) {
    const float consumed = u[i] * v[i] * v[i];
    to_u[i] = u[i] - 0.1f * consumed + feed[i] * (1.0f - u[i]);
    to_v[i] = v[i] + 0.1f * consumed - 0.06f * v[i];
  }
}
extern "C" __global__ void sums(const float* __restrict__ u, float* __restrict__ parts, int count) {
  __shared__ float shared[8];
  float own = 0.0f;
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < count; i += gridDim.x * blockDim.x) own += u[i] * u[i];
  for (int o = 16; o; o /= 2) own += __shfl_xor_sync(~0u, own, o);
  if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = own;
  __syncthreads();
  if (threadIdx.x == 0) {
    float total = 0.0f;
    for (int warp = 0; warp < blockDim.x / 32; ++warp) total += shared[warp];
    parts[blockIdx.x] = total;
  }
}
extern "C" __global__ void adapt(const float* __restrict__ parts, float* __restrict__ rate, int count) {
  if (threadIdx.x) return;
  float total = 0.0f;
  for (int i = 0; i < count; ++i) total += parts[i];
  rate[0] = 0.2f / (1.0f + 1e-6f * total);
}
"""


def coupled_fields(session: Any) -> Iterator[Program]:
    """Two fields that diffuse on two streams, react, and set the rate of the next step by their norm; in CuPy."""
    os.environ["CUPY_CACHE_IN_MEMORY"] = "1"
    import cupy
    from numpy import int32

    module = cupy.RawModule(code=FIELDS, options=("-std=c++17",))
    diffuse, react, sums, adapt = map(module.get_function, ("diffuse", "react", "sums", "adapt"))
    count = SIDE * SIDE
    u, v, next_u, next_v, feed, k_u, k_v = (cupy.zeros(count, dtype=cupy.float32) for _ in range(7))
    parts, rate = cupy.zeros(PARTS, dtype=cupy.float32), cupy.full(1, 0.2, dtype=cupy.float32)
    drawn = cupy.random.default_rng(0)
    for tensor, scale in ((feed, 0.05), (k_u, 1.0), (k_v, 0.5)):
        tensor[:] = scale * drawn.random(count, dtype=cupy.float32)

    def refresh(seed: int) -> None:
        own = cupy.random.default_rng(seed)
        for field in (u, v):
            field[:] = own.random(count, dtype=cupy.float32)
        rate.fill(0.2)

    refresh(0)
    main, side = (cupy.cuda.Stream(non_blocking=True) for _ in range(2))
    grid = (-(-SIDE // 128), SIDE)
    cupy.cuda.Device().synchronize()

    def joined(first: Any, second: Any) -> None:
        event = cupy.cuda.Event(disable_timing=True)
        event.record(first)
        second.wait_event(event)

    main.begin_capture()
    for _ in range(ITERATIONS):
        joined(main, side)
        with main:
            diffuse(grid, (128,), (u, k_u, rate, next_u, int32(SIDE)))
        with side:
            diffuse(grid, (128,), (v, k_v, rate, next_v, int32(SIDE)))
        joined(side, main)
        with main:
            react((256,), (256,), (next_u, next_v, feed, u, v, int32(count)))
            sums((PARTS,), (256,), (u, parts, int32(count)))
            adapt((1,), (32,), (parts, rate, int32(PARTS)))
    graph = main.end_capture()
    live = session.graph(graph)

    def replay() -> None:
        graph.launch(cupy.cuda.Stream.null)

    kept = (graph, module, u, v, next_u, next_v, feed, k_u, k_v, parts, rate, main, side)
    yield Program("coupled fields, CuPy", live, replay, refresh, [], kept, written_by(live, ()))
