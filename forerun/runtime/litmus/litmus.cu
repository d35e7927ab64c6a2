// The phases of litmus tests; forerun/runtime/litmus/notation.py says what each word means.
//
// All accesses are weak ld.global and st.global, as those of real kernels are. Everything is volatile assembly with a
// "memory" clobber: neither the compiler nor ptxas may move one step across another. The functions are templates,
// because each kernel has only the parameters that its own phases use.

struct Locals {
    int drawn, got_x, got_y;
};

// The cells of a CTA are those of its role's threads, one each. Loads go to the opposite end of the grid, so that with
// many CTAs each reads what another CTA, most likely on another SM, has stored.
struct Cells {
    static __device__ constexpr int of_cta() { return Dims::N / Launch::grid_x; }
    static __device__ __forceinline__ int own() { return blockIdx.x * of_cta() + threadIdx.x % of_cta(); }
    static __device__ __forceinline__ int opposite() { return Dims::N - 1 - own(); }
    static __device__ __forceinline__ int first_of_opposite_cta() { return (Launch::grid_x - 1 - blockIdx.x) * of_cta(); }
};

__device__ __forceinline__ int read_cell(const int* cell) {
    int value;
    asm volatile("ld.global.s32 %0, [%1];" : "=r"(value) : "l"(cell) : "memory");
    return value;
}

__device__ __forceinline__ void write_cell(int* cell, int value) {
    asm volatile("st.global.s32 [%0], %1;" ::"l"(cell), "r"(value) : "memory");
}

__device__ __forceinline__ void pause(int microseconds) {
    for (int i = 0; i < microseconds; i += 10) asm volatile("nanosleep.u32 10000;" ::: "memory");
}

template <class A>
__device__ __forceinline__ void sleep(const A&, Locals&) {
    pause(200);
}

template <class A>
__device__ __forceinline__ void stagger(const A&, Locals&) {
    pause(20 * (blockIdx.x % 8 + threadIdx.x / 32));
}

// The condition is never true (the clock has run for a while), and neither compiler can know that.
template <class A>
__device__ __forceinline__ void dormant_wait(const A&, Locals&) {
    unsigned long long clock;
    asm volatile("mov.u64 %0, %%clock64;" : "=l"(clock)::"memory");
    if (clock == 0) asm volatile("griddepcontrol.wait;" ::: "memory");
}

template <class A>
__device__ __forceinline__ void draw(const A& a, Locals& l) {
    l.drawn = read_cell(a.fresh + Cells::own());
}

template <class A>
__device__ __forceinline__ void store_x(const A& a, Locals& l) {
    write_cell(a.x + Cells::own(), l.drawn);
}

template <class A>
__device__ __forceinline__ void store_y(const A& a, Locals& l) {
    write_cell(a.y + Cells::own(), l.drawn);
}

template <class A>
__device__ __forceinline__ void load_x(const A& a, Locals& l) {
    l.got_x = read_cell(a.x + Cells::opposite());
}

template <class A>
__device__ __forceinline__ void load_y(const A& a, Locals& l) {
    l.got_y = read_cell(a.y + Cells::opposite());
}

// Volatile loads, so that each looks again; a few hundred microseconds at most.
__device__ __forceinline__ int poll(const int* cell) {
    int first, now;
    asm volatile("ld.volatile.global.s32 %0, [%1];" : "=r"(first) : "l"(cell) : "memory");
    for (int i = 0; i < 1000; i++) {
        asm volatile("ld.volatile.global.s32 %0, [%1];" : "=r"(now) : "l"(cell) : "memory");
        if (now != first) break;
    }
    return now;
}

template <class A>
__device__ __forceinline__ void poll_x(const A& a, Locals& l) {
    l.got_x = poll(a.x + Cells::opposite());
}

template <class A>
__device__ __forceinline__ void poll_y(const A& a, Locals& l) {
    l.got_y = poll(a.y + Cells::opposite());
}

template <class A>
__device__ __forceinline__ void report_x(const A& a, Locals& l) {
    write_cell(a.seen_x + Cells::opposite(), l.got_x);
}

template <class A>
__device__ __forceinline__ void report_y(const A& a, Locals& l) {
    write_cell(a.seen_y + Cells::opposite(), l.got_y);
}

// Bulk copies (cp.async.bulk, the asynchronous proxy): one thread copies the cells that the CTA's threads would load.
// There is one landing place for each variable. No fence of the asynchronous proxy covers global memory, on purpose.
struct Landing {
    alignas(16) int cells[256];
    alignas(8) unsigned long long barrier;
};

template <int variable>
__device__ __forceinline__ Landing& landing() {
    __shared__ Landing place;
    return place;
}

__device__ __forceinline__ unsigned int shared_address(const void* pointer) {
    return static_cast<unsigned int>(__cvta_generic_to_shared(pointer));
}

__device__ __forceinline__ void start_copy(Landing& place, const int* cells) {
    if (threadIdx.x == 0) {
        const unsigned int barrier = shared_address(&place.barrier), bytes = Cells::of_cta() * sizeof(int);
        asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(barrier) : "memory");
        asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
        asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
        asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
                         shared_address(place.cells)),
                     "l"(cells + Cells::first_of_opposite_cta()), "r"(bytes), "r"(barrier)
                     : "memory");
    }
    __syncthreads();
}

__device__ __forceinline__ int await_copy(Landing& place) {
    const unsigned int barrier = shared_address(&place.barrier);
    unsigned int done = 0;
    while (!done) {
        asm volatile(
            "{\n.reg .pred p;\nmbarrier.try_wait.parity.shared::cta.b64 p, [%1], 0;\nselp.u32 %0, 1, 0, p;\n}"
            : "=r"(done)
            : "r"(barrier)
            : "memory");
    }
    return place.cells[Cells::of_cta() - 1 - threadIdx.x % Cells::of_cta()];
}

template <class A>
__device__ __forceinline__ void copy_x(const A& a, Locals&) {
    start_copy(landing<0>(), a.x);
}

template <class A>
__device__ __forceinline__ void land_x(const A&, Locals& l) {
    l.got_x = await_copy(landing<0>());
}

template <class A>
__device__ __forceinline__ void copy_y(const A& a, Locals&) {
    start_copy(landing<1>(), a.y);
}

template <class A>
__device__ __forceinline__ void land_y(const A&, Locals& l) {
    l.got_y = await_copy(landing<1>());
}
