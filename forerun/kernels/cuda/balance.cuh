// Which share of the work a CTA has. SMs do not read equally fast while all of them read: on an H100, those that share
// their way to memory with three others read a third more than those that share it with five (benchmarks/NOTES.md). So
// the first shares are larger, and a ticket deals those to the fast SMs. Whatever SMs the CTAs run on, each share is
// dealt exactly once. What is fast was measured: forerun/runtime/cuda/balance.py. A kernel that includes this header and
// has a CTA for each SM is balanced; the entry deals the shares before the first step.
#pragma once

#include "ticket.cuh"

template <class Launch> constexpr bool is_balanced = Launch::fast_ctas > 0;

__device__ __forceinline__ int& dealt_share() {
    __shared__ int share;
    return share;
}

// The number of the CTA's share: any other than the CTA's own number only if the launch is balanced.
template <class Launch> __device__ __forceinline__ int share_of_cta() {
    if constexpr (is_balanced<Launch>) return dealt_share();
    return cta_of<Launch>();
}

template <class Launch> __device__ __forceinline__ bool is_on_fast_sm() {
    const unsigned sm = sm_number();
    const unsigned long long sms = sm < 64 ? Launch::fast_sms_0 : sm < 128 ? Launch::fast_sms_1 : Launch::fast_sms_2;
    return sm < 192 && (sms >> sm % 64 & 1) != 0;
}

// Takes a ticket. It counts the CTAs that came: in its lower half those on fast SMs, in its upper half the others. The
// last one puts it back to zero for the next replay. Too many of one kind take the last shares of the other kind.
template <class Launch> __device__ __forceinline__ int share_by(unsigned* ticket) {
    constexpr int ctas = ctas_of<Launch>, fast = Launch::fast_ctas;
    static_assert(ctas < 1 << 16, "the ticket has 16 bits for each kind");
    const bool on_fast = is_on_fast_sm<Launch>();
    const unsigned before = add_to_ticket(ticket, on_fast ? 1u : 1u << 16);
    const int fast_before = before & 0xFFFF, slow_before = before >> 16;
    if (fast_before + slow_before == ctas - 1) clear_ticket(ticket);
    if (on_fast) return fast_before < fast ? fast_before : ctas - 1 - (fast_before - fast);
    return slow_before < ctas - fast ? fast + slow_before : fast - 1 - (slow_before - (ctas - fast));
}

// Every thread of the CTA calls this once, before it asks for the share.
template <class Launch> __device__ __forceinline__ void deal_share(unsigned* ticket) {
    if (thread_of<Launch>() == 0) dealt_share() = share_by<Launch>(ticket);
    __syncthreads();
}

// Where a share begins, if a count is dealt in consecutive shares: equal ones, but for the fast SMs' larger ones. In
// hundredths of an ordinary share.
template <class Launch> __device__ constexpr int weight_before(int share) {
    return 100 * share + (is_balanced<Launch> ? (Launch::fast_percent - 100) * least(share, Launch::fast_ctas) : 0);
}
template <class Launch, int count> __device__ __forceinline__ int start_of_balanced_share(int share) {
    if constexpr (!is_balanced<Launch>) return start_of_share<count, ctas_of<Launch>>(share);
    constexpr int weight = weight_before<Launch>(ctas_of<Launch>);
    return static_cast<int>(static_cast<long long>(count) * weight_before<Launch>(share) / weight);
}
// The most that a share has.
template <class Launch, int count> __device__ constexpr int most_of_balanced_share() {
    if constexpr (!is_balanced<Launch>) return ceil_div(count, ctas_of<Launch>);
    constexpr long long weight = weight_before<Launch>(ctas_of<Launch>), most = weight_before<Launch>(1);
    return static_cast<int>((count * most + weight - 1) / weight);
}
