"""How a model's decode step is built and compiled for a target."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from forerun.cli.progress import Progress, pass_progress
from forerun.ir.types import DType

if TYPE_CHECKING:
    from forerun.compiler import Executable
    from forerun.frontends.llama import LlamaConfig, LlamaModel
    from forerun.ir.graph import Graph
    from forerun.kernels.packing import Packing
    from forerun.passes.infra.pipeline import Pipeline
    from forerun.runtime import Target

__all__ = ["DecodePlan", "MatrixStorage", "MatrixType", "compiled", "default_target", "require_clock"]

_CTAS = 128
"""About as many CTAs as a large GPU has SMs share the attention."""

_NO_BLOCKS = "give f32, bf16 or f16, or name a file of a model"


class MatrixType(enum.StrEnum):
    """Types that the rows of KV caches may have."""

    F32 = "f32"
    BF16 = "bf16"
    F16 = "f16"


class MatrixStorage(enum.StrEnum):
    """How matrices may be stored: in blocks, where a file has them so; or of one of the types."""

    QUANTISED = "quantised"
    F32 = "f32"
    BF16 = "bf16"
    F16 = "f16"


@dataclass(frozen=True)
class DecodePlan:
    """How a decode step is built, and where it runs.

    Attributes:
        dtype: Of matrices, but for those that stay quantised.
        context: Positions; ``None``: by model.
        cache_dtype: Of the rows of the KV cache.
        quantised: Whether blocks of a file that kernels can read stay as they are.
    """

    target: Target
    pipeline: Pipeline
    dtype: DType
    context: int | None
    cache_dtype: DType = DType.F32
    quantised: bool = False

    @classmethod
    def of(
        cls,
        target: str,
        pipeline: str,
        dtype: MatrixStorage | None,
        context: int | None,
        *,
        cache: MatrixType | None = None,
        shaped: bool = False,
    ) -> DecodePlan:
        """From what the user gave. Everything is checked here, before the download and the weights.

        If nothing else is asked for, all is f32 on the reference target. On a GPU, matrices and KV rows of shapes are
        bf16, as such models are served. Blocks of files stay quantised there; other matrices of files are f16, which
        keeps what blocks say, whose scales are f16, where bf16 would drop three bits of it; their KV rows are f32.

        Raises:
            InvalidInput: If a name or an option is wrong, or weights that are only shapes are to be quantised.
            Unsupported: If the target is not there.
        """
        from forerun.compiler import pipeline_for
        from forerun.runtime import resolve_target
        from forerun.support.diagnostics import InvalidInput

        resolved = resolve_target(target)
        on_gpu = resolved.name == "cuda"
        if shaped and dtype is MatrixStorage.QUANTISED:
            raise InvalidInput("the weights of --shape are random numbers, not blocks", hint=_NO_BLOCKS)
        quantised = dtype is MatrixStorage.QUANTISED or (dtype is None and on_gpu and not shaped)
        others = (MatrixStorage.BF16 if shaped else MatrixStorage.F16) if on_gpu else MatrixStorage.F32
        named = others if dtype in (None, MatrixStorage.QUANTISED) else dtype
        cache = cache or (MatrixType.BF16 if on_gpu and shaped else MatrixType.F32)
        passes = pipeline_for(resolved, pipeline)
        return cls(resolved, passes, DType[named.name], context, DType[cache.name], quantised)

    def packings(self, model: LlamaModel) -> dict[str, Packing]:
        """Which matrices of a file stay in blocks."""
        return model.packings if self.quantised else {}

    def graph(
        self,
        config: LlamaConfig,
        context: int | None = None,
        steps: int = 1,
        packings: Mapping[str, Packing] | None = None,
    ) -> Graph:
        """Decode steps of a model, before all passes; with another number of positions instead of the plan's own.

        ``packings`` are the matrices that stay in blocks.
        """
        from forerun.frontends.decode import decode_graph
        from forerun.kernels import norm_head

        options: dict[str, Any] = {}
        if self.target.name == "cuda":
            options = {
                "splits": max(1, _CTAS // config.kv_heads),
                "argmax_parts": min(norm_head.PARTS, config.vocabulary),
            }
        options |= {"dtype": self.dtype, "cache_dtype": self.cache_dtype}
        return decode_graph(config, context=context or self.context, steps=steps, packings=packings, **options)


def compiled(
    graph: Graph,
    plan: DecodePlan,
    dump: str | None,
    weights: Mapping[str, Any],
    told: Progress,
    pipeline: Pipeline | None = None,
) -> Executable:
    """A graph, rewritten and loaded as the plan says, or with another pipeline; ``told`` is told which pass runs.

    Raises:
        ForerunError: As :func:`forerun.compile`.
    """
    from forerun.compiler import compile as compile_graph
    from forerun.passes.instrument import default_instruments

    instruments = [*default_instruments(), pass_progress(told)]
    passes = plan.pipeline if pipeline is None else pipeline
    return compile_graph(graph, plan.target, passes, dump, weights=weights, instruments=instruments)


def require_clock(plan: DecodePlan, otherwise: str) -> None:
    """Refuse targets that are not a GPU.

    Raises:
        Unsupported: If the target is one; ``otherwise`` says what can be done there.
    """
    from forerun.runtime.device import DeviceTarget
    from forerun.support.diagnostics import Unsupported

    if not isinstance(plan.target, DeviceTarget):
        raise Unsupported(f"target '{plan.target.name}' has no GPU's clock", hint=otherwise)


def default_target(*, shaped: bool) -> str:
    """The target if none is named: models that are only shapes are for GPUs."""
    from forerun.runtime.gpu import no_gpu_reason

    return "cuda" if shaped and no_gpu_reason() is None else "reference"
