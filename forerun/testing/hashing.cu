// What forerun.testing.hashing computes. The compiler writes the phases, from their declarations; one thread runs them.

// What of a value is hashed: the low 32 bits of an integer, or of the bits of a number of another type.
template <class T> __device__ __forceinline__ unsigned word(T number) { return static_cast<unsigned>(number); }
__device__ __forceinline__ unsigned word(float number) { return __float_as_uint(number); }
__device__ __forceinline__ unsigned word(double number) { return static_cast<unsigned>(__double_as_longlong(number)); }
__device__ __forceinline__ unsigned word(bf16 number) { return number.bits; }
__device__ __forceinline__ unsigned word(f16 number) { return number.bits; }

// FNV-1a over whole numbers, as in _hash there: the number of operands, then every number, in order.
struct Hash {
    unsigned state;
    __device__ __forceinline__ explicit Hash(unsigned operands) : state(0x811C9DC5u ^ operands) {}
    template <class T> __device__ __forceinline__ void add(T number) {
        state = (state ^ word(number)) * 0x01000193u;
        state ^= state >> 15;
    }
    // Element number k of what is stored; number 0 is also what digest gives.
    __device__ __forceinline__ int element(unsigned k) const { return static_cast<int>(state + 0x01000193u * k); }
};

// Whether this is the one thread: the first of its role, in the first CTA.
__device__ __forceinline__ bool is_alone(int first_thread_of_role) {
    return cta_in_grid() == 0 && thread_in_cta() == first_thread_of_role;
}
