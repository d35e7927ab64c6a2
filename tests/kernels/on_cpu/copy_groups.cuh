// Instead of groups of copies. A copy is made when its thread awaits it, as late as it may be.
#pragma once

struct CopyGroups { std::vector<std::vector<on_cpu::Copy>> ended; std::vector<on_cpu::Copy> open; };
inline std::vector<CopyGroups> copy_groups;
inline CopyGroups& own_copy_groups() {
    if (copy_groups.size() < on_cpu::fibers.size()) copy_groups.resize(on_cpu::fibers.size());
    return copy_groups[on_cpu::current->number];
}

inline void begin_copy16(void* shared, const void* p, bool wanted) {
    static const char zeros[16] = {};
    on_cpu::bad_reads += reinterpret_cast<size_t>(shared) % 16 != 0;
    if (wanted && !on_cpu::may_read(p, 16)) return;
    const char* start = wanted ? static_cast<const char*>(p) : zeros;
    own_copy_groups().open.push_back({shared, nullptr, std::vector<char>(start, start + 16)});
    memset(shared, 0xFF, 16);
}
inline void end_copy_group() {
    CopyGroups& own = own_copy_groups();
    own.ended.push_back(std::move(own.open));
    own.open.clear();
}
template <int pending> inline void await_copy_groups() {
    auto& groups = own_copy_groups().ended;
    while (groups.size() > pending) {
        for (const on_cpu::Copy& copy : groups.front()) memcpy(copy.to, copy.bytes.data(), copy.bytes.size());
        groups.erase(groups.begin());
    }
}
