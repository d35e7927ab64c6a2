// The schedule of a batch of attention on two lines: tasks cut where the share of a CTA ends, or whole; dealt in equal shares of the line of all work, or in turns.
constexpr bool by_request = false, longest_first = false, two_lines = true;

#include "attention_schedule.cuh"
