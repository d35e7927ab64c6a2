// Instead of the functions of device.cuh that are assembly.
inline void wait() {}
inline void trigger() {}
inline void cta_barrier() { __syncthreads(); }

template <class T> T load_global(const T* p) { return on_cpu::may_read(p, sizeof(T)) ? *p : T{}; }

inline uint4 load16(const void* p, bool wanted = true) {
    uint4 v = {0, 0, 0, 0};
    if (wanted && on_cpu::may_read(p, 16)) memcpy(&v, p, 16);
    return v;
}
inline uint4 load16_once(const void* p, bool wanted = true) { return load16(p, wanted); }

inline void copy16(void* shared, const void* p) {
    const uint4 v = load16(p);
    memcpy(shared, &v, 16);
}
inline void await_copies() {}

inline float widened(f16 x) {
    _Float16 value;
    memcpy(&value, &x, 2);
    return static_cast<float>(value);
}

template <class T> T narrowed(float x);
template <> inline float narrowed<float>(float x) { return x; }
template <> inline f16 narrowed<f16>(float x) {
    const _Float16 value = static_cast<_Float16>(x);
    f16 result;
    memcpy(&result, &value, 2);
    return result;
}
template <> inline bf16 narrowed<bf16>(float x) {
    const unsigned bits = __float_as_uint(x);
    return {static_cast<unsigned short>((bits + 0x7FFF + (bits >> 16 & 1)) >> 16)};
}
