// The products of the rows of one expert: each CTA takes an equal part of the outputs of all groups of rows.

#include "expert_tiles.cuh"

struct Part {
    const Arguments& a;
    int first, stop;  // blocks of outputs of all groups, one group behind the other
    int count;        // groups that they lie in
    static constexpr int blocks = ceil_div(Dims::N, block);
    __device__ __forceinline__ Work look_up(int number) const {
        const int group = first / blocks + number, first_row = a.begin() + group * group_rows;
        const int begin = greatest(first - group * blocks, 0), end = least(stop - group * blocks, blocks);
        return {a.expert(), first_row, least(a.end() - first_row, group_rows), begin * block, least(end * block, Dims::N)};
    }
};

__device__ __forceinline__ void multiply(const Arguments& a, Locals&) {
    const long long all = static_cast<long long>(ceil_div(a.end() - a.begin(), group_rows)) * Part::blocks;
    const int first = static_cast<int>(all * cta_of<Launch>() / ctas_of<Launch>);
    const int stop = static_cast<int>(all * (cta_of<Launch>() + 1) / ctas_of<Launch>);
    const int count = stop > first ? (stop - 1) / Part::blocks - first / Part::blocks + 1 : 0;
    multiply_items(a, Part{a, first, stop, count});
}
