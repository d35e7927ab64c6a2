// The schedule of a batch of attention: tasks cut where the share of a CTA ends, or whole; dealt the longest first.
constexpr bool by_request = false, longest_first = true, two_lines = false;

#include "attention_schedule.cuh"
