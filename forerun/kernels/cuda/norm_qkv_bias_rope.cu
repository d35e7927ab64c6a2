// The same as norm_qkv_rope.cu, with a bias for each row.

#include "qkv_rows.cuh"
#include "qkv_stream.cuh"

__device__ __forceinline__ void load_bias(const Arguments& a, Locals& l) {
    for_each_pair([&](int slot, int row) {
        const Place place = place_of(row);
        const float* bias = (place.matrix == 0 ? a.b_q : place.matrix == 1 ? a.b_k : a.b_v) + place.row;
        l.bias[slot] = {load_global(bias), load_global(bias + 1)};
    });
}

__device__ __forceinline__ void add_bias(const Arguments& a, Locals& l) {
    for_each_pair([&](int slot, int) {
        l.pairs[slot].even += l.bias[slot].even;
        l.pairs[slot].odd += l.bias[slot].odd;
    });
}
