"""Values of addresses, roots, and divergence: compared with what threads do that run random programs."""

from __future__ import annotations

from hypothesis import event, given

from forerun.ptx.cfg import ControlFlow, control_flow
from forerun.ptx.divergence import CTA, divergence
from forerun.ptx.parser import parse_module
from forerun.ptx.provenance import provenance
from tests.ptx.machine import Thread, programs

PARAMETERS = {"a": 0x7F0000001000, "b": 0x7E0000000100, "n": 0xFFFFFFF0}


def threads(flow: ControlFlow) -> list[tuple[int, Thread]]:
    special = [{"%tid.x": tid, "%ctaid.x": cta, "%ntid.x": 4} for cta in range(2) for tid in range(4)]
    return [(one["%ctaid.x"], Thread(flow, one, PARAMETERS)) for one in special]


@given(programs())
def test_addresses_are_what_threads_compute(text: str) -> None:
    kernel = parse_module(text).entry("k")
    flow = control_flow(kernel)
    values = provenance(kernel, flow)
    accesses = 0

    def compare(thread: Thread, index: int, number: int) -> None:
        nonlocal accesses
        accesses += 1
        address = flow.instructions[index].operands[number]
        actual = (thread.registers[str(address.base)] + address.offset) % (1 << 64)  # type: ignore[union-attr, operator]
        assert thread.of(values.addresses[index, number]) == actual
        assert thread.of(values.expanded(values.addresses[index, number])) == actual

    for _, thread in threads(flow):
        thread.run(compare)
    kinds = {term.kind for value in values.addresses.values() for term, _ in values.expanded(value).terms}
    event(f"accesses: {min(accesses, 20) // 5 * 5}+")
    for kind in kinds:
        event(f"has {kind}")


@given(programs())
def test_what_is_uniform_is_equal_for_all_threads(text: str) -> None:
    flow = control_flow(parse_module(text).entry("k"))
    found = divergence(flow)
    traces = []
    for cta, thread in threads(flow):
        thread.run(lambda *_: None)
        traces.append((cta, thread.trace))
    of_ctas = [[trace for cta, trace in traces if cta == number] for number in range(2)]
    for allowed, group in ((CTA, of_ctas[0]), (CTA, of_ctas[1]), (frozenset[str](), [t for _, t in traces])):
        seen = {
            tuple(
                (block, tuple((name, value) for name, value in written if found.registers[name] <= allowed))
                for block, written in trace
                if found.blocks[block] <= allowed
            )
            for trace in group
        }
        assert len(seen) == 1
    event(f"uniform branches: {any(found.is_uniform(branch) for branch in found.branches)}")
    event(f"divergent branches: {not all(found.is_uniform(branch) for branch in found.branches)}")
