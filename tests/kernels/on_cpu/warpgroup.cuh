// Instead of products by warpgroups, and of what belongs to them. A product is made when its thread awaits it, as late as
// it may be, and so are the copies that an arrival is made with.
#pragma once

#include "bulk_copy.cuh"
#include "copy_groups.cuh"
#include "matrices.cuh"
#include "tensor_core.cuh"

// The address of an element of a matrix: the swizzle exchanges bits of addresses.
inline const unsigned short* element_at(Matrix matrix, int panel, int row, int column) {
    unsigned address = (matrix & 0x3FFF) * 16 + panel * ((matrix >> 16 & 0x3FFF) * 16);
    address += row / 8 * ((upper_word & 0x3FFF) * 16) + row % 8 * 128 + 2 * column;
    on_cpu::bad_reads += upper_word >> 30 != 1;
    return reinterpret_cast<unsigned short*>(dynamic_shared + (address ^ (address >> 3 & 0x70)));
}
template <class T> inline float number_at(const unsigned short* p) { return widened(T{*p}); }

struct Product { void (*make)(const Product&); float* c; const unsigned* registers; Matrix a, b; bool adds; };
struct ProductGroups { std::vector<std::vector<Product>> ended; std::vector<Product> open; };
inline ProductGroups& own_product_groups() {
    static std::vector<ProductGroups> all;
    const size_t number = on_cpu::current->number;
    if (all.size() <= number) all.resize(number + 1);
    return all[number];
}

// Row `h` of the lane's two, and its columns: all 16 elements of `a`, and those of `b`.
template <class T, int half_columns, class A, class B> void multiply_rows(const Product& product, A a, B b) {
    for (int i = 0; i < half_columns; ++i) {
        const int h = i / 2 % 2, column = i / 4 * 8 + lane_on_cpu() % 4 * 2 + i % 2;
        float sum = product.adds ? product.c[i] : 0.0f;
        for (int k = 0; k < 16; ++k) sum += a(h, k) * number_at<T>(b(column, k));
        product.c[i] = sum;
    }
}
template <class T, int half_columns> void multiply_shared(const Product& product) {
    const int first = on_cpu::current->thread / 32 % 4 * 16 + lane_on_cpu() / 4;
    float a[2][16];
    for (int i = 0; i < 32; ++i) a[i / 16][i % 16] = number_at<T>(element_at(product.a, 0, first + 8 * (i / 16), i % 16));
    multiply_rows<T, half_columns>(
        product, [&](int h, int k) { return a[h][k]; },
        [&](int column, int k) { return element_at(product.b, 0, column, k); });
}
template <class T, int half_columns> void multiply_registers(const Product& product) {
    const unsigned own[] = {product.registers[0], product.registers[1], product.registers[2], product.registers[3]};
    const unsigned* warp = words_of_warp(own);
    const auto a = [&](int h, int k) {
        return half_of<T>(warp[(lane_on_cpu() / 4 * 4 + k % 8 / 2) * 8 + h + 2 * (k / 8)], k % 2);
    };
    multiply_rows<T, half_columns>(
        product, a, [&](int column, int k) { return element_at(product.b, column / 64, k, column % 64); });
}

inline void begin_products() {}
template <int count> inline void hold(float (&)[count]) {}
inline void end_product_group() {
    ProductGroups& own = own_product_groups();
    own.ended.push_back(std::move(own.open));
    own.open.clear();
}
template <int pending> inline void await_product_groups() {
    auto& groups = own_product_groups().ended;
    while (groups.size() > pending) {
        for (const Product& product : groups.front()) product.make(product);
        groups.erase(groups.begin());
    }
}
template <class T, int half_columns> inline void begin_product(float (&c)[half_columns], Matrix a, Matrix b, bool adds) {
    own_product_groups().open.push_back({multiply_shared<T, half_columns>, c, nullptr, a, b, adds});
}
template <class T, int half_columns> inline void begin_product(float (&c)[half_columns], const unsigned (&a)[4], Matrix b) {
    own_product_groups().open.push_back({multiply_registers<T, half_columns>, c, a, 0, b, true});
}

template <int count> inline void take_registers() {}
template <int count> inline void give_registers() {}

inline void arrive_with_copies(Arrival* arrival) {
    std::vector<PieceOfCopy>& open = own_copy_groups().open;
    for (const PieceOfCopy& copy : open) on_cpu::begin(copy.to, copy.bytes.data(), copy.bytes.size(), arrival);
    open.clear();
    deferred_arrivals.push_back(arrival);
    ++on_cpu::progress;  // those who wait for it can go on
}
