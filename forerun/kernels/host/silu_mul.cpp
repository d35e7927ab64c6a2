// y = silu(gate) * up.

inline void run(const Arguments& a, const Part& part) {
    for (long i = part.begin(Dims::D); i < part.end(Dims::D); ++i) {
        a.y[i] = a.gate[i] / (1.0f + std::exp(-a.gate[i])) * a.up[i];
    }
}
