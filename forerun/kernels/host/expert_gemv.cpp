// y[s] = w[chosen[s]] x[s % R]. Each thread has consecutive rows of all slots.

inline void run(const Arguments& a, const Part& part) {
    for (long n = part.begin(Dims::S * Dims::N); n < part.end(Dims::S * Dims::N); ++n) {
        const long slot = n / Dims::N, row = n % Dims::N, chosen = a.chosen[slot];
        const long expert = chosen < 0 ? 0 : chosen < Dims::E ? chosen : Dims::E - 1;
        a.y[n] = dot(a.w + (expert * Dims::N + row) * Dims::M, a.x + slot % Dims::R * Dims::M, Dims::M);
    }
}
