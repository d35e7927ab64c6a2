// The schedule of a batch of rows of experts: what forerun.schedules.make_schedule makes for ExpertGemv, bit by bit.
// An expert's tasks are groups of rows; their axis is the outputs.

#include "expert_groups.cuh"
#include "schedule_words.cuh"

constexpr int owners = Dims::R - 1, ctas = Dims::B - 1, most_items = Dims::I;
constexpr int axis_block = 16;  // outputs between which a group's products may be cut

__device__ __forceinline__ Tile tile_of(const Arguments& a, int outputs) {
    return {group_rows_of(a.columns()), outputs, (outputs - 1) / axis_block + 1, a.fixed(), a.per_block()};
}

__device__ __forceinline__ Owner check_owner(const Arguments& a, int expert, Fault* fault) {
    const int begin = load_global(a.row_pointers + expert), end = load_global(a.row_pointers + expert + 1);
    note(fault, end < begin || (expert == 0 && begin != 0), fault_of(BAD_POINTERS, expert));
    note(fault, expert == owners - 1 && end > a.rows(), fault_of(TOO_MANY_ROWS, nowhere));
    const unsigned rows = static_cast<unsigned>(end) - static_cast<unsigned>(begin);
    const int groups = end > begin ? (rows - 1) / static_cast<unsigned>(group_rows_of(a.columns())) + 1 : 0;
    return {groups, a.outputs()};
}

#include "schedule_owners.cuh"
