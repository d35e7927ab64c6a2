// The products of a batch of rows of experts: each CTA works off its items of a schedule (forerun.schedules).

#include "expert_tiles.cuh"

// The CTAs of the schedule are dealt to those of the grid. Items of one task write results of their own, so nothing has to
// be put together: slots and counters are not looked at.
struct Items {
    const Arguments& a;
    int first, count;
    __device__ __forceinline__ Work look_up(int number) const {
        const uint4 head = load16(a.items + 8LL * (first + number)), tail = load16(a.items + 8LL * (first + number) + 4);
        const int expert = static_cast<int>(head.x), group = static_cast<int>(head.y);
        const int first_row = load_global(a.row_pointers + expert) + group * group_rows;
        const int rows = load_global(a.row_pointers + expert + 1) - first_row;
        return {expert, first_row, least(rows, group_rows), static_cast<int>(tail.x), static_cast<int>(tail.y)};
    }
};

__device__ __forceinline__ void multiply(const Arguments& a, Locals&) {
    constexpr int shares = Dims::B - 1, ctas = ctas_of<Launch>;
    const int first = load_global(a.pointers + start_of_share<shares, ctas>(cta_of<Launch>()));
    const int stop = load_global(a.pointers + start_of_share<shares, ctas>(cta_of<Launch>() + 1));
    multiply_items(a, Items{a, first, stop - first});
}
