// The products of a batch of rows of experts: each CTA works off its items of a schedule (forerun.schedules).

#include "expert_tiles.cuh"
#include "schedule_items.cuh"

// Items of one task write results of their own, so nothing has to
// be put together: slots and counters are not looked at.
struct Items {
    const Arguments& a;
    int first, count;
    __device__ __forceinline__ Work look_up(int number) const {
        const Item item = load_item(a, first + number);
        const int first_row = load_global(a.row_pointers + item.owner) + item.lane * group_rows;
        const int rows = load_global(a.row_pointers + item.owner + 1) - first_row;
        return {item.owner, first_row, least(rows, group_rows), item.begin, item.end};
    }
};

__device__ __forceinline__ void multiply(const Arguments& a, Locals&) {
    const ItemRange range = items_of_cta<Dims::B - 1>(a);
    multiply_items(a, Items{a, range.first, range.count});
}
