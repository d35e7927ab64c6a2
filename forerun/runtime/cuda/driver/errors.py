"""What the CUDA driver reports, as one exception type that says where it happened and what to do."""

from __future__ import annotations

from forerun.support.diagnostics import ForerunError

__all__ = ["ADVICE", "BAD_IMAGE", "NOT_PERMITTED", "STICKY", "CudaError"]

_OUT_OF_MEMORY = "CUDA_ERROR_OUT_OF_MEMORY"

STICKY = frozenset(
    f"CUDA_ERROR_{name}"
    for name in (
        "ECC_UNCORRECTABLE",
        "NVLINK_UNCORRECTABLE",
        "CONTAINED",
        "ILLEGAL_ADDRESS",
        "LAUNCH_TIMEOUT",
        "CONTEXT_IS_DESTROYED",
        "ASSERT",
        "HARDWARE_STACK_ERROR",
        "ILLEGAL_INSTRUCTION",
        "MISALIGNED_ADDRESS",
        "INVALID_ADDRESS_SPACE",
        "INVALID_PC",
        "LAUNCH_FAILED",
        "TENSOR_MEMORY_LEAK",
        "MPS_CLIENT_TERMINATED",
        "EXTERNAL_DEVICE",
    )
)
"""Errors after which a context is of no more use.

Source: CUDA Driver API, "Data types used by CUDA driver", ``CUresult``: those that leave "the process in an
inconsistent state", after which "any further CUDA work will return the same error"; for ``ASSERT``, that the context
"cannot be used anymore"; for a destroyed context, its name. Errors of the hardware (ECC, NVLink) are counted among
them, since what memory holds after them is not known.
"""

BAD_IMAGE = frozenset(
    f"CUDA_ERROR_{name}" for name in ("INVALID_IMAGE", "INVALID_SOURCE", "NO_BINARY_FOR_GPU", "NOT_FOUND")
)
"""Errors that a wrong image of a kernel may be the reason of."""

NOT_PERMITTED = "CUDA_ERROR_NOT_PERMITTED"
"""What the driver says to calls from a function that it calls itself."""

_RESTART = "the process can do no more work on this GPU: start it again"
_MEMCHECK = "compute-sanitizer --tool memcheck names the kernel and the access"
_BAD_ACCESS = f"{_MEMCHECK}; {_RESTART}"

ADVICE: dict[str, tuple[str, str]] = {
    _OUT_OF_MEMORY: (
        "there is not enough memory",
        "close other programs on this GPU, or take a smaller model, context or element type",
    ),
    "CUDA_ERROR_INVALID_VALUE": ("the driver does not accept what forerun asked for", ""),
    "CUDA_ERROR_INVALID_CONTEXT": (
        "no context is current, or another one than the program's",
        "launch on streams of the device that the program was compiled for",
    ),
    "CUDA_ERROR_NO_BINARY_FOR_GPU": (
        "the machine code is for another architecture",
        "leave the target's option 'arch' out: the default is the device's",
    ),
    "CUDA_ERROR_INVALID_IMAGE": ("the machine code cannot be loaded", "empty the compiler's cache and compile again"),
    "CUDA_ERROR_UNSUPPORTED_PTX_VERSION": ("the toolchain is newer than the driver", "update the driver"),
    "CUDA_ERROR_NOT_FOUND": ("the machine code has no function of that name", ""),
    "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES": (
        "a CTA needs more registers or shared memory than an SM has",
        "launch fewer threads a CTA, or less shared memory",
    ),
    "CUDA_ERROR_ILLEGAL_ADDRESS": ("a kernel accessed memory that is not its own", _BAD_ACCESS),
    "CUDA_ERROR_MISALIGNED_ADDRESS": ("a kernel accessed memory at an address that is not aligned", _BAD_ACCESS),
    "CUDA_ERROR_LAUNCH_FAILED": ("a kernel failed while it ran", _BAD_ACCESS),
    "CUDA_ERROR_ILLEGAL_INSTRUCTION": ("a kernel executed an illegal instruction", _BAD_ACCESS),
    "CUDA_ERROR_INVALID_PC": ("a kernel ran out of its code", _BAD_ACCESS),
    "CUDA_ERROR_HARDWARE_STACK_ERROR": ("a kernel's stack is broken or too small", _BAD_ACCESS),
    "CUDA_ERROR_ASSERT": ("an assertion in a kernel failed", _RESTART),
    "CUDA_ERROR_LAUNCH_TIMEOUT": ("a kernel ran too long on a GPU that drives a display", _RESTART),
    "CUDA_ERROR_ECC_UNCORRECTABLE": ("the GPU's memory lost bits", "nvidia-smi -q -d ECC tells more; reset the GPU"),
    NOT_PERMITTED: (
        "a function of a host node called CUDA, which the driver forbids",
        "let it use the host's memory alone, or launch split by split: target='cuda{splits=plans}'",
    ),
    "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED": (
        "a stream is being captured, which allows no synchronization",
        "end the capture first",
    ),
}
"""What an error means here, and what to do about it, by its name."""


class CudaError(ForerunError):
    """A call of the CUDA driver failed.

    Attributes:
        function: The driver's function.
        code: The error's name, such as ``CUDA_ERROR_INVALID_VALUE``.
        driver_text: The driver's own words.
        node: The node that it is about; empty if it is about none, or nobody knows which.
        kernel: The node's kernel, or empty.
    """

    def __init__(
        self, function: str, code: str, driver_text: str = "", *, node: str = "", kernel: str = "", detail: str = ""
    ) -> None:
        self.function = function
        self.code = code
        self.driver_text = driver_text
        self.node = node
        self.kernel = kernel
        self.detail = detail
        explanation, hint = ADVICE.get(code, ("", _RESTART if code in STICKY else ""))
        super().__init__(self._compose(explanation), (), hint)
        # What the machine cannot do is told apart from what forerun did wrong.
        self.exit_status = 3 if code == _OUT_OF_MEMORY else 4

    def _compose(self, explanation: str) -> str:
        place = f"node '{self.node}'" if self.node else ""
        place += f" (kernel '{self.kernel}')" if self.kernel else ""
        said = f" ({self.driver_text})" if self.driver_text else ""
        parts = [f"{self.function}: {self.code}{said}", explanation, self.detail]
        text = ": ".join(part for part in parts if part)
        return f"{place}: {text}" if place else text

    @property
    def is_sticky(self) -> bool:
        """Whether the context can do no more work after it."""
        return self.code in STICKY

    @property
    def is_out_of_memory(self) -> bool:
        """Whether memory was lacking."""
        return self.code == _OUT_OF_MEMORY

    def about(self, *, node: str = "", kernel: str = "", detail: str = "") -> CudaError:
        """The same error, with more said about what failed."""
        return CudaError(
            self.function,
            self.code,
            self.driver_text,
            node=node or self.node,
            kernel=kernel or self.kernel,
            detail=detail or self.detail,
        )
