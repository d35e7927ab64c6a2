// Instead of groups of copies. A copy is made when its thread awaits it, as late as it may be.
#pragma once

struct PieceOfCopy { void* to; std::vector<char> bytes; };
struct CopyGroups { std::vector<std::vector<PieceOfCopy>> ended; std::vector<PieceOfCopy> open; };
inline std::vector<CopyGroups> copy_groups;
inline CopyGroups& own_copy_groups() {
    const size_t number = on_cpu::current->number;
    if (copy_groups.size() <= number) copy_groups.resize(number + 1);
    return copy_groups[number];
}

inline void begin_copy16(void* shared, const void* p, bool wanted) {
    static const char zeros[16] = {};
    on_cpu::bad_reads += reinterpret_cast<size_t>(shared) % 16 != 0;
    if (wanted && !on_cpu::may_read(p, 16)) return;
    const char* start = wanted ? static_cast<const char*>(p) : zeros;
    own_copy_groups().open.push_back({shared, std::vector<char>(start, start + 16)});
    memset(shared, 0xFF, 16);
}
inline void begin_copy16_at(unsigned address, const void* p, bool wanted) {
    begin_copy16(dynamic_shared + address, p, wanted);
}
inline void end_copy_group() {
    CopyGroups& own = own_copy_groups();
    own.ended.push_back(std::move(own.open));
    own.open.clear();
}
template <int pending> inline void await_copy_groups() {
    auto& groups = own_copy_groups().ended;
    while (groups.size() > pending) {
        for (const PieceOfCopy& copy : groups.front()) memcpy(copy.to, copy.bytes.data(), copy.bytes.size());
        groups.erase(groups.begin());
    }
}
