// The schedule of a batch of attention on two lines: tasks cut where the share of a CTA ends, or whole; dealt the longest first.
constexpr bool by_request = false, longest_first = true, two_lines = true;

#include "attention_schedule.cuh"
