// What shim.h declares.
#undef _FORTIFY_SOURCE  // its longjmp only goes to callers
#include "shim.h"

uint3 threadIdx, blockIdx, blockDim, gridDim;

namespace on_cpu {

struct Range { const char *start, *stop; };
static std::vector<Range> readable;
int bad_reads = 0;

void let_read(char** starts, size_t* sizes, int count) {
    readable.clear();
    for (int i = 0; i < count; ++i) readable.push_back({starts[i], starts[i] + sizes[i]});
}

bool may_read(const void* p, size_t size, size_t alignment) {
    const char* start = static_cast<const char*>(p);
    bool inside = false;
    for (const Range& range : readable) inside |= start >= range.start && start + size <= range.stop;
    const bool fine = inside && reinterpret_cast<size_t>(p) % alignment == 0;
    bad_reads += !fine;
    return fine;
}

static jmp_buf scheduler_resumes;
static std::vector<Fiber> fibers;
Fiber* current;
Barrier cluster;
std::vector<Barrier> ctas, warps;
std::vector<unsigned long long> exchanged;
long progress;

// swapcontext asks the kernel for the signal mask each time, which took most of the time of all threads: it only starts
// a fiber, and what follows are jumps.
void yield() {
    if (_setjmp(current->resumes) == 0) _longjmp(scheduler_resumes, 1);
}

static void run_a_while(Fiber& fiber) {
    current = &fiber;
    if (_setjmp(scheduler_resumes)) return;
    if (fiber.started) _longjmp(fiber.resumes, 1);
    fiber.started = true;
    setcontext(&fiber.context);
}

void arrive(Barrier& barrier) {
    const int round = barrier.round;
    if (++barrier.arrived == barrier.expected) {
        barrier.arrived = 0;
        ++barrier.round;
        ++progress;
    }
    while (barrier.round == round) yield();
}

struct Copy { void *to, *arrival; std::vector<char> bytes; };
static std::vector<Copy> copies;

void begin(void* to, const void* from, size_t size, void* arrival) {
    const char* start = static_cast<const char*>(from);
    copies.push_back({to, arrival, std::vector<char>(start, start + size)});
    memset(to, 0xFF, size);
    ++progress;  // those who wait for it can go on
}

size_t deliver(void* arrival) {
    size_t size = 0;
    std::vector<Copy> others;
    for (Copy& copy : copies) {
        if (copy.arrival != arrival) {
            others.push_back(std::move(copy));
            continue;
        }
        memcpy(copy.to, copy.bytes.data(), copy.bytes.size());
        size += copy.bytes.size();
    }
    copies = std::move(others);
    return size;
}

alignas(128) unsigned char dynamic_memory[16][1 << 18];

static constexpr size_t STACK = 1 << 16;
static void (*body)();
static void fiber_main() {
    body();
    current->done = true;
    ++progress;
    _longjmp(scheduler_resumes, 1);
}

static uint3 place(unsigned number, uint3 extents) {
    return {number % extents.x, number / extents.x % extents.y, number / extents.x / extents.y};
}

int run_grid(uint3 grid, uint3 block, unsigned ctas_a_cluster, void (*thread)()) {
    body = thread;
    gridDim = grid;
    blockDim = block;
    bad_reads = 0;
    const int threads = block.x * block.y * block.z;
    const int fibers_a_cluster = threads * ctas_a_cluster;
    for (unsigned first = 0; first < grid.x * grid.y * grid.z; first += ctas_a_cluster) {
        cluster = {fibers_a_cluster};
        ctas.assign(ctas_a_cluster, Barrier{threads});
        warps.assign(fibers_a_cluster / 32, Barrier{32});
        exchanged.assign(fibers_a_cluster, 0);
        copies.clear();
        memset(dynamic_memory, 0xFF, ctas_a_cluster * sizeof(dynamic_memory[0]));
        fibers.resize(fibers_a_cluster);
        for (int i = 0; i < fibers_a_cluster; ++i) {
            Fiber& fiber = fibers[i];
            if (!fiber.stack) fiber.stack.reset(new char[STACK]);
            fiber.started = fiber.done = false;
            fiber.cluster_round = -2;
            fiber.number = i;
            fiber.cta = i / threads;
            fiber.thread = i % threads;
            getcontext(&fiber.context);
            fiber.context.uc_stack.ss_sp = fiber.stack.get();
            fiber.context.uc_stack.ss_size = STACK;
            makecontext(&fiber.context, fiber_main, 0);
        }
        for (bool busy = true; busy;) {
            busy = false;
            const long before = progress;
            for (Fiber& fiber : fibers) {
                if (fiber.done) continue;
                busy = true;
                blockIdx = place(first + fiber.cta, grid);
                threadIdx = place(fiber.thread, block);
                run_a_while(fiber);
            }
            if (busy && progress == before) return -1;
        }
        bad_reads += copies.size();
    }
    return bad_reads;
}

}  // namespace on_cpu
